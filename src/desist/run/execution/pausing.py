"""Pausing a run: the body raises `PauseRun`, and the run ends in this process as `PAUSED`.

The run is stored with what it waits for, holds no thread, task or connection afterwards, and goes on as another `Run`
with the same id. `PausedHere` is such a run without a shared database, as `paused_runs` holds it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import DesistError, UnsupportedError
from desist.run.execution.follow import recent_streams
from desist.run.execution.run_snapshot import StorableRun, to_stored
from desist.run.records.requirement import Requirement
from desist.run.storage.paused_runs import LIMIT, paused_runs
from desist.run.storage.shared_store import shared_store
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = [
    "PauseRun",
    "PausedHere",
    "begin_pause",
    "cancel_paused",
    "end_paused_children",
    "finish_pause",
    "pause_error",
    "paused_children",
]

log = logging.getLogger("desist.run")

#: Sources of cancels that don't concern a paused run.
_LEAVING = (Source.consumer_closed, Source.client_disconnected, Source.interrupt, Source.shutdown)


class PauseRun(BaseException):
    """Raised by a body that waits for a human. Not an `Exception`: a retry must not repeat it."""


class PausingBody(Protocol):
    """A body that can pause."""

    waiting: Sequence[Requirement]

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put answers into the output."""


class PausedHere:
    """A run that waits in the memory of this process, or in files that only this process uses."""

    def __init__(self, run: StorableRun) -> None:
        self.run_id, self._run = run.run_id, run
        self._body: Any = run.body

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""
        return to_stored(self._run, status)

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the output."""
        self._body.apply_answers(requirements)

    def save_answers(self) -> None:
        """Store the output, if it is stored outside of this process."""
        done = self._run.store.save_run(self.to_stored(RunStatus.paused)) if self._run.store.blocking else None
        if done is not None:
            done.result()  # ends in time: the store bounds it

    def end_paused(self, request: CancelRequest, record: CancelRecord) -> Future[None] | None:
        """End the run as cancelled, and store that."""
        run, output = self._run, self._run.body.output
        record.delivered_at = record.settled_at = time.time()
        self._body.output.cancel, output.status = record, RunStatus.cancelled
        for child in paused_children(self._body):
            PausedHere(child).end_paused(request, replace(record))
        try:
            self._body.terminal_events(RunStatus.cancelled, None)
        except Exception:  # a bug here must not keep the run from ending
            log.exception("run %s: its output could not be finished", run.run_id, extra=run.ids)
        with run.lock:
            run.scope.end_paused(request.reason)
            self._run_record(record)
        recent_streams.forget(run.run_id)  # it ends with the pause; later followers get the terminal event
        registry.end(run, RunStatus.cancelled)
        log.info("%s run %s was cancelled while it was paused", run.body.kind, run.run_id, extra=run.ids)
        return run.store.save_run(to_stored(run, RunStatus.cancelled))

    def _run_record(self, record: CancelRecord) -> None:
        run: Any = self._run
        run.record = record


def paused_children(body: Any) -> list[Any]:
    """Return the runs in the steps of a workflow that wait for a human."""
    pauses = getattr(body, "pauses", None)
    return list(pauses.paused_children) if pauses is not None else []


def end_paused_children(run: StorableRun) -> None:
    """End the runs that wait in a run that ends otherwise. In a shared store the end of the run does that."""
    if run.shared is not None:
        return
    reason = run.scope.reason or CancelReason(source=Source.parent, text="the run that it was started in has ended")
    for child in paused_children(run.body):
        PausedHere(child).end_paused(CancelRequest(reason=reason), CancelRecord.of(reason))


def pause_error(run: StorableRun) -> BaseException | None:
    """Return why a run can't pause, or None."""
    parent = run.scope.parent
    in_step = run.scope.bound and run.body.kind == "agent" and parent is not None and parent.parent is None
    if parent is not None and not in_step:
        return UnsupportedError(
            f"run {run.run_id} can't pause, as it was started in another run: one of its tools waits for a human"
        )
    if run.shared is not None and shared_store(run.store) is None:
        return UnsupportedError(
            f"run {run.run_id} can't pause: with a cancellation manager, a paused run needs a database such as SqliteDb"
        )
    if parent is None and run.shared is None and paused_runs.full():
        return DesistError(
            f"run {run.run_id} can't pause: {LIMIT} runs of this process are paused already. Answer or cancel some, or"
            " give the agents and workflows a database such as SqliteDb"
        )
    return None


def begin_pause(run: StorableRun) -> None:
    """Hand the decisions about a run that pauses over to `paused_runs`. With the lock of the tree held.

    What the agent of a step waits for is decided with the run of its workflow, which pauses when nothing else runs.
    """
    if run.shared is None and run.scope.parent is None:
        body: Any = run.body
        paused_runs.expect(PausedHere(run), body.waiting)


def finish_pause(run: StorableRun) -> None:
    """Leave the registry: the run is paused, and its pause is stored and emitted. Without the lock."""
    shared = shared_store(run.store)
    if shared is not None:
        paused_runs.remember_store(run.run_id, shared)  # first: a cancel finds the run here or there
    body: Any = run.body
    continuer = getattr(body, "continuer", None)
    if continuer is not None and any(one.on_timeout in ("skip", "approve") for one in body.waiting):
        paused_runs.remember_continuer(run.run_id, continuer)
    if run.scope.parent is None:
        registry.discard(run)
    else:
        registry.end(run, RunStatus.paused)  # so that its id still finds the tree


def cancel_paused(run: StorableRun, request: CancelRequest) -> CancelReceipt:
    """Cancel a run that has paused, or is about to be stored as paused: its record decides. Without the lock.

    Readers that leave, and the exit of the process, don't cancel a paused run: it does not need them.
    """
    if request.reason.source in _LEAVING:
        return CancelReceipt(Outcome.finished, run.run_id, lambda: run.scope.status)
    root = run.root
    if root is not run and root.scope.status is not RunStatus.paused:  # the agent of a step; its workflow goes on
        return root.cancel(request.reason, grace=request.grace, force=request.force, compensate=request.compensate)
    if shared_store(run.store) is not None:
        ownership: Any = run
        receipt: CancelReceipt = ownership.ownership.request_cancel(request)
        return receipt
    found = paused_runs.cancel(run.run_id, request)
    if found is not None:
        return found
    return registry.cancel(  # it goes on as another `Run`, or has ended
        run.run_id,
        request.reason,
        reach=request.reach,
        grace=request.grace,
        force=request.force,
        compensate=request.compensate,
    )
