"""The thread that asks the cancellation manager on behalf of this process: for its own runs, and for those of others
that were cancelled from here. Called by `ownership`.
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
from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.exceptions import StoreError
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.values import CancelRequest
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.run.cancellation_management.base import BaseRunCancellationManager

__all__ = ["CANCELLED", "CancelWatch", "ManagerThread", "decode_request"]

log = logging.getLogger("desist.run")

#: What a manager says of a run that is to be stopped.
CANCELLED = ("asked", "cancelling")


class CancelWatch:
    """A run of another process that was cancelled from here."""

    def __init__(self, run_id: str, record: CancelRecord) -> None:
        self.run_id, self.record, self.latch = run_id, record, Latch()
        self.status: RunStatus = RunStatus.cancelling


class ManagerThread:
    """That thread; it ends when another manager is set."""

    def __init__(self, manager: BaseRunCancellationManager) -> None:
        self.manager = manager
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._told: dict[str, tuple[str | None, str | None] | None] = {}  #: runs of this process, and what was obeyed
        self._watches: list[CancelWatch] = []
        self._called = False
        threading.Thread(target=self._work, name="desist-manager", daemon=True).start()
        manager.listen(self._call)

    def do(self, work: Callable[[Future[Any]], None]) -> Future[Any]:
        """Have `work(future)` done in the thread; what it raises is the future's."""
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
        look_at = 0.0
        while True:
            busy = self._told or self._watches
            try:
                job = self._jobs.get(timeout=max(0.0, look_at - time.monotonic()) if busy else None)
                if job is None:
                    return
                job()
            except queue.Empty:
                pass
            if time.monotonic() >= look_at:
                self._poll()
                look_at = time.monotonic() + self.manager.look_every

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._jobs.put(self._poll)

    def _poll(self) -> None:
        self._called = False
        try:
            for run_id in list(self._told):
                self._obey(run_id)
            for watch in list(self._watches):
                self._check_watch(watch)
        except Exception as error:
            log.debug("the cancellation manager can't be asked: %s", error)

    def _obey(self, run_id: str) -> None:
        noted, run = self.manager.get_state(run_id), _live(run_id)
        if noted is None or run is None or noted.state not in CANCELLED:
            return
        told = (noted.request, noted.last)
        if self._told.get(run_id, told) != told:
            self._told[run_id] = told
            run.apply_cancel_request(decode_request(noted.request))
            if noted.last not in (None, noted.request):
                run.apply_cancel_request(decode_request(noted.last))

    # -- runs of this process

    def claim(self, run_id: str) -> ClaimResult:
        run = _live(run_id)
        self.manager.register_run(run_id)
        self._told[run_id] = None
        if run is not None:
            run.settled.add_done_callback(lambda: self._ended(run))
        noted = self.manager.get_state(run_id)
        return ClaimResult(decode_request(noted.request) if noted is not None and noted.state in CANCELLED else None)

    def _ended(self, run: Any) -> None:
        record = None if run.record is None else msgspec.json.encode(run.record).decode()

        def work(done: Future[None]) -> None:
            self._told.pop(run.run_id, None)
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
        noted = self.manager.get_state(watch.run_id)
        if noted is not None and noted.state != "ended":
            return
        self._watches.remove(watch)
        if noted is not None and noted.status is not None:
            watch.status = RunStatus(noted.status)
        if noted is not None and noted.record is not None:
            known = msgspec.json.decode(noted.record, type=CancelRecord)
            for one in fields(CancelRecord):
                setattr(watch.record, one.name, getattr(known, one.name))
        watch.latch.set()


def _live(run_id: str) -> Any:
    return registry.get(run_id)


def decode_request(text: str | None) -> CancelRequest:
    """Return a request from its JSON; a manager that keeps none says only that there is one."""
    if text:
        return msgspec.json.decode(text, type=CancelRequest)
    return CancelRequest(reason=CancelReason(source=Source.user))
