"""The thread that calls the cancellation manager for the runs of this process, and for runs of other processes that
this process has cancelled. Used by `ownership`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelRecord
from desist.cancel.status import RunStatus
from desist.exceptions import StoreError
from desist.run.storage.live_run import LiveRun, live_run
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.values import CancelRequest
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.run.cancellation_management.base import BaseRunCancellationManager

__all__ = ["CANCELLED", "CancelWatch", "ManagerThread", "decode_request"]

log = logging.getLogger("desist.run")

#: The states of a run that has a cancel request.
CANCELLED = ("asked", "cancelling")


class CancelWatch:
    """A run of another process that this process has cancelled. `latch` is set when the run has ended."""

    def __init__(self, run_id: str, record: CancelRecord) -> None:
        self.run_id, self.record, self.latch = run_id, record, Latch()
        self.status: RunStatus = RunStatus.cancelling


class ManagerThread:
    """The manager's thread. All attributes but the queue are used by this thread only. It ends on `close`."""

    def __init__(self, manager: BaseRunCancellationManager) -> None:
        self.manager = manager
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        #: Runs of this process, each with the request that was applied last.
        self._applied: dict[str, tuple[str | None, str | None] | None] = {}
        self._watches: list[CancelWatch] = []
        self._poll_queued = False  #: set by any thread of the manager's; a race costs one more poll
        threading.Thread(target=self._work, name="desist-manager", daemon=True).start()
        manager.listen(self._queue_poll)

    def do(self, work: Callable[[Future[Any]], None]) -> Future[Any]:
        """Run `work(future)` in the thread. An exception becomes the future's. Callable from any thread."""
        future: Future[Any] = Future()

        def job() -> None:
            try:
                work(future)
            except Exception as error:
                future.set_exception(StoreError(f"the cancellation manager failed: {error}"))

        self._jobs.put(job)
        return future

    def close(self) -> None:
        self.manager.close()
        self._jobs.put(None)

    def _work(self) -> None:
        poll_at = 0.0
        while True:
            busy = self._applied or self._watches
            try:
                job = self._jobs.get(timeout=max(0.0, poll_at - time.monotonic()) if busy else None)
                if job is None:
                    return
                job()
            except queue.Empty:
                pass
            if time.monotonic() >= poll_at:
                self._poll()
                poll_at = time.monotonic() + self.manager.look_every

    def _queue_poll(self) -> None:
        if not self._poll_queued:
            self._poll_queued = True
            self._jobs.put(self._poll)

    def _poll(self) -> None:
        self._poll_queued = False
        try:
            for run_id in list(self._applied):
                self._apply_request(run_id)
            for watch in list(self._watches):
                self._check_watch(watch)
        except Exception as error:
            log.debug("polling the cancellation manager failed: %s", error)

    def _apply_request(self, run_id: str) -> None:
        state, run = self.manager.get_state(run_id), live_run(run_id)
        if state is None or run is None or state.state not in CANCELLED:
            return
        request = (state.request, state.last)
        if self._applied.get(run_id, request) != request:
            self._applied[run_id] = request
            run.apply_cancel_request(decode_request(state.request))
            if state.last not in (None, state.request):
                run.apply_cancel_request(decode_request(state.last))

    # -- runs of this process

    def claim(self, run_id: str) -> ClaimResult:
        run = live_run(run_id)
        self.manager.register_run(run_id)
        self._applied[run_id] = None
        if run is not None:
            run.settled.add_done_callback(lambda: self._ended(run))
        state = self.manager.get_state(run_id)
        return ClaimResult(decode_request(state.request) if state is not None and state.state in CANCELLED else None)

    def _ended(self, run: LiveRun) -> None:
        record = None if run.record is None else msgspec.json.encode(run.record).decode()

        def work(done: Future[None]) -> None:
            self._applied.pop(run.run_id, None)
            self.manager.finish(run.run_id, run.scope.status.value, record)
            done.set_result(None)

        self.do(work)

    # -- runs of others

    def watch(self, run_id: str, record: CancelRecord) -> CancelWatch:
        watch = CancelWatch(run_id, record)

        def work(done: Future[None]) -> None:
            self._watches.append(watch)
            done.set_result(None)
            self._check_watch(watch)

        self.do(work)
        return watch

    def _check_watch(self, watch: CancelWatch) -> None:
        state = self.manager.get_state(watch.run_id)
        if state is not None and state.state != "ended":
            return
        self._watches.remove(watch)
        if state is not None and state.status is not None:
            watch.status = RunStatus(state.status)
        if state is not None and state.record is not None:
            known = msgspec.json.decode(state.record, type=CancelRecord)
            for one in fields(CancelRecord):
                setattr(watch.record, one.name, getattr(known, one.name))
        watch.latch.set()


def decode_request(text: str | None) -> CancelRequest:
    """Return a request from its JSON. A manager of the plain API stores no JSON; its request has no reason."""
    if text:
        return msgspec.json.decode(text, type=CancelRequest)
    return CancelRequest(reason=CancelReason(source=Source.user))
