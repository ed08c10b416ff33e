"""A process that works on runs for the tests: `python events_worker.py FILE`. Commands and answers are lines of JSON.

It says `{"at": ID}` when a run has come to its gate, and `{"end": ID, "told": [...]}` when one has told its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

from events_workflows import KINDS, told
from raw_tables import Db, open_db

from desist.run.options.budget import Budget
from desist.testing import Gate

gates: dict[str, Gate] = {}


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


class Here(Gate):
    """Says that somebody has come."""

    flush: Any = None
    keys: Any = None

    def _arrive(self, wake: Any) -> bool:
        if self.flush is not None:
            self.flush()
        say(at=self.name, keys=self.keys)
        return super()._arrive(wake)


def work(db: Db, order: dict[str, Any]) -> None:
    run_id, how = order["id"], order.get("how", "events")
    keys: list[str] = []
    more = {"keys": keys} if order["kind"] == "paying" else {}
    gates[run_id].keys = keys
    workflow = KINDS[order["kind"]](gates[run_id], db, on_crash=order.get("on_crash", "mark"), **more)
    options = dict(order.get("options") or {})
    if "budget" in options:
        options["budget"] = Budget(**options["budget"], price=(lambda model, usage: 0.25))
    if how == "background":
        events = asyncio.run(in_background(workflow, run_id))
    elif how == "plain":
        workflow.run("go", run_id=run_id, session_id="s", **options)
        events = []
    else:
        told_too = how == "events"
        events = list(workflow.run("go", run_id=run_id, session_id="s", stream=True, stream_events=told_too, **options))
    say(end=run_id, told=told(events))


async def in_background(workflow: Any, run_id: str) -> list[Any]:
    await workflow.arun("go", run_id=run_id, session_id="s", background=True, stream_events=True)
    return [event async for event in workflow.afollow(run_id)]


def main() -> None:
    db = open_db(sys.argv[1])
    say(ready=os.getpid())
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] in ("run", "resume"):
            gates[order["id"]] = gate = Here(order["id"])
            gate.flush = db.flush if order.get("flush") else None
        if order["do"] == "run":
            threading.Thread(target=work, args=(db, order), daemon=True).start()
        elif order["do"] == "open":
            gates[order["id"]].open()
        elif order["do"] == "resume":
            workflow = KINDS[order["kind"]](gates[order["id"]], db, on_crash="resume")
            say(resumed=order["id"], runs=workflow.resume_lost_runs())
    db.close()


if __name__ == "__main__":
    main()
