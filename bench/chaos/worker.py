"""A process of the harness: `python -m bench.chaos.worker NAME DB-URL NOTES PROVIDER-URL [MISTAKE]`.

Orders are lines of JSON on its standard input; its answers stand in the notes. It works on runs, goes on with those of
workers that died, and cancels. The one called "desk" only cancels. With a mistake it works wrongly on purpose: see
`mistakes`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.chaos import mistakes
from bench.chaos.notes import Notes, NotesHandler
from bench.chaos.phases import PhaseKill
from bench.chaos.plan import BEAT, KINDS, LEASE
from bench.chaos.run_store import PATIENCE, open_db
from bench.chaos.workflows import Works
from desist.db.coordination import lease_keeper
from desist.db.process import lease_observer
from desist.exceptions import DesistError, StoreError
from desist.run.cancel import cancel

#: Seconds between two looks for runs that were left by others.
RESUME_EVERY = 0.5
#: Seconds that whoever cancels waits for the end.
WAIT = 90.0


class Worker:
    """Does what it is told, each thing in a thread of its own."""

    def __init__(self, name: str, url: str, notes: Notes, provider: str) -> None:
        self._name, self._notes = name, notes
        self._db = open_db(url)
        self._kill = PhaseKill(notes)
        self._kill.wrap(self._db.store)
        self._works = Works(self._db, provider, notes, lambda run_id: self._kill.reach("in_step", run_id))
        self._over = threading.Event()

    def serve(self) -> None:
        """Take orders until there are no more."""
        resuming = threading.Thread(target=self._resume, daemon=True)
        if self._name != "desk":
            resuming.start()
        self._notes("ready")
        for line in sys.stdin:
            order = json.loads(line)
            do = order.pop("do")
            if do == "die":  # at once: the next order's run may be the one
                self._kill.arm(**order)
            else:
                self._begin(getattr(self, f"_{do}"), **order)
        self._over.set()
        if resuming.ident is not None:
            resuming.join()
        self._db.close()
        self._notes("closed")

    @staticmethod
    def _begin(work: Any, **order: Any) -> None:
        threading.Thread(target=work, kwargs=order, daemon=True).start()

    def _run(self, run: str, kind: str, on_crash: str, pace: float) -> None:
        self._notes("ordered", run=run)
        try:
            workflow = self._works.get(kind, on_crash)
            reader = workflow.run(json.dumps({"pace": pace}), run_id=run, stream=True, stream_events=True)
            self._tell(run, reader, how="run")
        except DesistError as error:
            self._notes("refused", run=run, error=repr(error))

    def _tell(self, run: str, events: Any, how: str) -> None:
        """Read a run's events to the end, and say how it told its end. Who follows hears what is stored."""
        terminal, last = 0, None
        for last in events:
            terminal += last.is_terminal and last.run_id == run
        ended = last is not None and last.is_terminal and last.run_id == run
        cancel, output = getattr(last, "cancel", None), getattr(last, "run_output", None)
        self._notes(
            "told",
            run=run,
            how=how,
            status=last.status.value if ended else None,
            terminal=terminal,
            source=cancel.source.value if cancel else None,
            reason=cancel.reason if cancel else None,
            since_request=max(0.0, time.time() - cancel.requested_at) if cancel else None,
            store_error=output.store_error if output is not None else None,
        )

    def _resume(self) -> None:
        """Go on with what others have left, when it starts and every now and then."""
        while not self._over.is_set():
            for kind in KINDS:
                if self._over.is_set():
                    return
                workflow, since = self._works.get(kind, "resume"), time.monotonic()
                try:
                    runs = workflow.resume_lost_runs()
                except StoreError as error:
                    self._notes("trouble", doing="resume", error=repr(error))
                    continue
                for run in runs:
                    self._notes("resumed", run=run, since=since)
                    self._begin(self._follow, run=run, workflow=workflow)
            self._over.wait(RESUME_EVERY)

    def _follow(self, run: str, workflow: Any) -> None:
        while not self._over.is_set():
            try:
                self._tell(run, workflow.follow(run), how="follow")
                return
            except StoreError as error:
                self._notes("trouble", doing="follow", error=repr(error))
                self._over.wait(RESUME_EVERY)

    def _cancel(self, run: str, where: str) -> None:
        reason = f"{where}, asked of {self._name} at {time.monotonic():.3f}"
        self._notes("asking", run=run, where=where)
        try:
            receipt = cancel(run, reason=reason, by=self._name, db=self._db)
        except StoreError as error:
            self._notes("not_taken", run=run, where=where, error=repr(error))
            return
        told = {"run": run, "where": where, "outcome": receipt.outcome.value, "truth": bool(receipt)}
        self._notes("receipt", **told, status=receipt.status.value if receipt.status else None)
        if receipt.outcome.value != "unknown" and receipt.wait(WAIT):
            self._notes("settled", **told, status=receipt.status.value, reason=receipt.reason, far=receipt.run_id)


def main() -> None:
    """Work until the input ends."""
    name, url, path, provider = sys.argv[1:5]
    notes = Notes(Path(path), name)
    logging.getLogger("desist").addHandler(NotesHandler(notes))
    logging.getLogger("asyncio").addHandler(NotesHandler(notes))
    lease_keeper.LEASE, lease_keeper.HEARTBEAT_INTERVAL, lease_observer.WINDOW = LEASE, BEAT, 2 * BEAT
    for mistake in sys.argv[5:]:
        mistakes.make(mistake)
    assert PATIENCE > LEASE
    Worker(name, url, notes, provider).serve()


if __name__ == "__main__":
    main()
