"""Ending a worker with SIGKILL in a named phase of a run's life, at a seam that is there anyway.

The methods of this process's store are wrapped, in the worker alone: nothing of desist knows of this. A process that
sends SIGKILL to itself executes nothing more in that thread, so the place is exact.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from bench.chaos.notes import Notes

__all__ = ["PHASES", "PhaseKill"]

#: In the order of a run's life. The start: asked for, recorded. The end: asked for, decided, written but not committed,
#: committed but told to nobody.
PHASES = (
    "before_claim",
    "after_claim",
    "in_step",
    "at_decision",
    "after_decision",
    "in_store",
    "after_store",
)


class PhaseKill:
    """Ends this process when the next of its runs comes to a phase. Children of runs don't count."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._armed: str | None = None
        self._roots: set[str] = set()
        self._ending = threading.local()  #: `of`, `cancel`: whose end, whose cancel this thread gives to the writer

    def arm(self, phase: str) -> None:
        """From now on the first that comes to this phase ends the process."""
        assert phase in PHASES, phase
        self._armed = phase

    def reach(self, phase: str, run_id: str) -> None:
        """A run is in this phase."""
        if phase == self._armed:
            self._notes("dying", run=run_id, phase=phase)
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, store: Any) -> None:
        """Have the methods of a store say in which phase a run is."""
        store.claim_run = functools.partial(self._claim_run, store.claim_run)
        store.end_run = functools.partial(self._end_run, store.end_run)
        store.save_run = functools.partial(self._save_run, store.save_run)
        store.record_cancel = functools.partial(self._record_cancel, store.record_cancel)
        store.writer.put = functools.partial(self._put, store.writer.put)

    def _claim_run(self, claim_run: Callable[..., Any], run: Any, **how: Any) -> Any:
        if run.parent_run_id is not None:
            return claim_run(run, **how)
        self._roots.add(run.run_id)
        self.reach("before_claim", run.run_id)
        claimed = claim_run(run, **how)
        claimed.add_done_callback(lambda done: done.exception() or self.reach("after_claim", run.run_id))
        return claimed

    def _end_run(self, end_run: Callable[..., Any], run_id: str, decide: Callable[[], Any]) -> Any:
        if run_id not in self._roots:
            return end_run(run_id, decide)
        ended: list[str] = []

        def decided() -> Any:
            self.reach("at_decision", run_id)
            run = decide()
            if run is not None:
                self.reach("after_decision", run_id)
                ended.append(run_id)
            return run

        done = self._put_end(ended, end_run, run_id, decided)
        done.add_done_callback(lambda done: self._stored(done, run_id) if ended else None)
        return done

    def _save_run(self, save_run: Callable[..., Any], run: Any) -> Any:
        """A cancel from here decides without the store: what is saved is the end."""
        if run.run_id not in self._roots or not run.status.is_final:
            return save_run(run)
        self.reach("after_decision", run.run_id)
        done = self._put_end([run.run_id], save_run, run)
        done.add_done_callback(lambda done: self._stored(done, run.run_id))
        return done

    def _stored(self, done: Any, run_id: str) -> None:
        if done.exception() is None:
            self.reach("after_store", run_id)

    def _record_cancel(self, note_cancel: Callable[..., Any], run_id: str, request: Any) -> None:
        """A cancel from here is left to the writer: note when it is on the disk."""
        self._ending.cancel = run_id
        try:
            note_cancel(run_id, request)
        finally:
            self._ending.cancel = None

    def _put_end(self, ended: list[str], call: Callable[..., Any], *arguments: Any) -> Any:
        self._ending.of = ended
        try:
            return call(*arguments)
        finally:
            self._ending.of = None

    def _put(self, put: Callable[..., Any], work: Callable[[Any], Any], **how: Any) -> Any:
        ended = getattr(self._ending, "of", None)
        cancelled = getattr(self._ending, "cancel", None)
        if cancelled is not None:
            done = put(work, **how)
            done.add_done_callback(lambda done: done.exception() or self._notes("cancel_recorded", run=cancelled))
            return done
        if ended is None:
            return put(work, **how)

        def written(tables: Any) -> Any:
            result = work(tables)
            if ended:  # in the transaction, which isn't committed yet
                self.reach("in_store", ended[0])
            return result

        return put(written, **how)
