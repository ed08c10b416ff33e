"""A process that works on runs for the tests: `python database_worker_program.py PLACE`.

Commands and answers are lines of JSON.

It says `{"at": ID}` when a run has come to where it waits, and `{"end": ID, ...}` when one has told its end.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

from desist import Agent, Step, Workflow, shield
from desist.db import PostgresDb, SqliteDb
from desist.db.tables.postgres import PostgresTransaction
from desist.db.tables.sql_runs import RunStatements
from desist.models.openai import OpenAIChat
from desist.run.execution.run import current_run
from desist.testing import Gate

gates: dict[str, Gate] = {}
Db = SqliteDb | PostgresDb


def open_db(place: str) -> Db:
    """Open a URL or a file."""
    return PostgresDb(place, timeout=20) if "://" in place else SqliteDb(place, timeout=20)


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def _gate() -> Gate:
    run: Any = current_run()
    assert run is not None
    return gates[run.root.run_id]


class Here(Gate):
    """Says that somebody has come."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)

    def _arrive(self, wake: Any) -> bool:
        say(at=self.name)
        return super()._arrive(wake)


async def wait(step_input: Any) -> str:
    await _gate().wait()
    return "went on"


async def half(step_input: Any) -> AsyncIterator[str]:
    yield "half a "
    yield "story"
    await _gate().wait()


def deaf(step_input: Any) -> str:
    run: Any = current_run()
    with shield(60):
        say(at=run.root.run_id)
        queue.SimpleQueue[None]().get(timeout=60)  # waits in C code
    return "never"


async def quick(step_input: Any) -> str:
    return "done"


def steps_of(kind: str, url: str | None) -> list[Any]:
    if kind == "model":
        return [Agent(OpenAIChat("m", api_key="k", base_url=url), name="Writer")]
    if kind == "kept":
        return [Step("one", executor=quick), Step("two", executor=wait), Step("three", executor=quick)]
    return [{"wait": wait, "half": half, "deaf": deaf, "quick": quick}[kind]]


def work(db: Db, kind: str, run_id: str, url: str | None, grace: float | None, on_crash: Any) -> None:
    workflow = Workflow("W", steps=steps_of(kind, url), db=db, grace=grace, on_crash=on_crash)
    events = []
    for event in workflow.run("go", run_id=run_id, session_id="s", stream=True):
        events.append(event)
        if kind == "model" and event.event == "RunContent" and not gates[run_id].is_open:
            gates[run_id].open()
            say(at=run_id)
    last = events[-1]
    output = getattr(last, "run_output", None)
    cancel = getattr(last, "cancel", None)
    told = {
        "status": last.status.value,
        "source": cancel.source.value if cancel else None,
        "reason": cancel.reason if cancel else None,
        "terminal": sum(event.is_terminal and event.run_id == run_id for event in events),
        "error": output.store_error if output else None,
    }
    say(end=run_id, **told)


def freeze(db: Any, run_id: str, at: str, number: str) -> None:
    """Stop this process, or kill it, in the middle of a transaction: when it holds the run, or has decided its end."""

    done: list[bool] = []

    def now() -> None:
        if not done:  # the job is done anew, later
            done.append(True)
            say(frozen=run_id)
            signal.pthread_kill(threading.get_ident(), signal.Signals[number])  # at once: not a moment later

    if at == "held":
        db.store.writer.put(lambda tables: (tables.runs.headers([run_id]), now()))
        return
    part, name = {"deciding": (PostgresTransaction, "assert_locked"), "decided": (RunStatements, "end_all")}[at]
    real = getattr(part, name)

    def frozen(self: Any, *args: Any) -> Any:
        now()
        return real(self, *args)

    setattr(part, name, frozen)
    gates[run_id].open()


def main() -> None:
    db = open_db(sys.argv[1])
    say(ready=os.getpid())
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "run":
            run_id = order["id"]
            gates[run_id] = Gate(run_id) if order["kind"] == "model" else Here(run_id)
            args = (db, order["kind"], run_id, order.get("url"), order.get("grace"), order.get("on_crash", "mark"))
            threading.Thread(target=work, args=args, daemon=True).start()
        elif order["do"] == "open":
            gates[order["id"]].open()
        elif order["do"] == "freeze":
            freeze(db, order["id"], order["at"], order.get("with", "SIGSTOP"))
        elif order["do"] == "resume":
            workflow = Workflow("W", steps=steps_of("kept", None), db=db, on_crash="resume")
            gates[order["id"]] = Here(order["id"])
            say(resumed=order["id"], runs=workflow.resume_lost_runs())
        elif order["do"] == "cancel":
            receipt = Workflow("W", steps=[quick], db=db).cancel(order["id"], reason=order.get("reason"), db=db)
            settled = receipt.wait(30) if order.get("wait") else None
            status = receipt.status.value if receipt.status else None
            say(
                cancelled=order["id"],
                outcome=receipt.outcome.value,
                truth=bool(receipt),
                status=status,
                settled=settled,
            )
    db.close()


if __name__ == "__main__":
    main()
