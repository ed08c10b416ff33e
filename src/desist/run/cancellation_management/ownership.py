"""Runs whose cancels go through a manager: what `Asking` needs of a shared store, for stores that aren't shared.

A run registers with the manager when it starts and asks it before it ends; another process asks it to stop the run. All
that is asked of the manager by runs of this process is asked in one thread, so that none of them ever waits for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError, StoreError
from desist.run.cancellation_management.client_thread import CANCELLED, ManagerThread, decode_request
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.runtime.background_loop import register_at_exit
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.run.cancellation_management.base import BaseRunCancellationManager, ManagedRunState

__all__ = [
    "ManagedOwnership",
    "get_cancellation_manager",
    "has_cancellation_manager",
    "managed_ownership",
    "request_cancel",
    "set_cancellation_manager",
]

log = logging.getLogger("desist.run")

#: Seconds that a cancel waits for a run that is just ending, and the pause between two looks.
FINISH_TIMEOUT, PAUSE = 5.0, 0.01
#: Seconds that a cancel waits for an answer of the manager.
ANSWER = 10.0


class ManagedOwnership:
    """A store that isn't shared, with a manager beside it: the part of `SharedStore` that runs use."""

    def __init__(self, manager_thread: ManagerThread, store: RunStore) -> None:
        self._manager_thread, self._store = manager_thread, store

    def claim_run(self, run: StoredRun) -> Future[ClaimResult]:
        """Record that a run starts, and register it."""
        self._store.save_run(run)
        return self._manager_thread.do(lambda done: done.set_result(self._manager_thread.claim(run.run_id)))

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """Ask whether a run was cancelled; if not, decide, record, and answer when that is done."""
        manager = self._manager_thread.manager

        def work(done: Future[CancelRequest | None]) -> None:
            noted = manager.begin_finish(run_id)
            if noted.state in CANCELLED:
                done.set_result(decode_request(noted.request))
                return
            run = decide()
            if run is None:
                manager.abort_finish(run_id)
            saved = None if run is None else self._store.save_run(run)
            if saved is None:
                done.set_result(None)
            else:
                saved.add_done_callback(lambda saved: _pass_on(saved, done))

        return self._manager_thread.do(work)

    def retry_in_background(self, run: StoredRun, error: BaseException) -> None:
        """An end was told without being recorded: record it."""
        self._store.save_run(run)

    def is_owned_elsewhere(self, run_id: str) -> bool:
        """There are no leases: no process takes a run from another one."""
        return False

    poll_is_overdue = False  #: the manager is heard, and polled, by the clerk

    def poll_now(self) -> None:
        """There is nothing to look for."""

    def may_be_lost(self, run_id: str) -> bool:
        """The same."""
        return False

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Have it known that a run is being cancelled from here."""
        text = msgspec.json.encode(request).decode()

        def work(done: Future[None]) -> None:
            self._manager_thread.manager.acknowledge(run_id, text)
            done.set_result(None)

        self._manager_thread.do(work)


def _pass_on(saved: Future[None], done: Future[Any]) -> None:
    error = saved.exception()
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


# -- the manager of this process

_manager_thread: ManagerThread | None = None


def set_cancellation_manager(manager: BaseRunCancellationManager | None) -> None:
    """Have cancels of runs that start from now on go through a manager; None: only through this process.

    Runs whose agent or workflow has a database that processes share don't use it: that one knows more.

    Raises:
        ConfigurationError: it isn't a manager.
    """
    from desist.run.cancellation_management.base import BaseRunCancellationManager
    from desist.run.cancellation_management.in_memory import InMemoryRunCancellationManager

    global _manager_thread
    if manager is not None and not isinstance(manager, BaseRunCancellationManager):
        raise ConfigurationError(f"a cancellation manager is a BaseRunCancellationManager, not {manager!r:.80}")
    before, plain = _manager_thread, manager is None or isinstance(manager, InMemoryRunCancellationManager)
    _manager_thread = None if manager is None or plain else ManagerThread(manager)
    if before is not None:
        before.close()


def get_cancellation_manager() -> BaseRunCancellationManager:
    """Return the manager that was set, or one that knows the runs of this process."""
    from desist.run.cancellation_management.in_memory import InMemoryRunCancellationManager

    return InMemoryRunCancellationManager() if _manager_thread is None else _manager_thread.manager


def has_cancellation_manager() -> bool:
    """Whether a manager was set."""
    return _manager_thread is not None


def managed_ownership(store: RunStore) -> ManagedOwnership | None:
    """Return what a run of this store asks: the manager, if one was set; else None."""
    return None if _manager_thread is None else ManagedOwnership(_manager_thread, store)


def request_cancel(run_id: str, request: CancelRequest) -> CancelReceipt | None:
    """Cancel a run of another process; None if there is no manager. Blocks for an answer.

    Raises:
        StoreError: the manager doesn't answer, or the process of a run that was about to end has died.
    """
    clerk = _manager_thread
    if clerk is None:
        return None
    text, until = msgspec.json.encode(request).decode(), time.monotonic() + FINISH_TIMEOUT
    while True:
        try:
            before = _answer(lambda: clerk.manager.request_cancel(run_id, text).before)
        except Exception as error:
            raise StoreError(f"run {run_id}: the cancel isn't known to be noted: {error}") from error
        if before is None or before.state != "ending":
            return _receipt(clerk, run_id, request, before)
        if time.monotonic() > until:
            raise StoreError(f"run {run_id} was about to end and doesn't go on: whether it was cancelled isn't known")
        time.sleep(PAUSE)


def _answer(ask: Callable[[], ManagedRunState | None]) -> ManagedRunState | None:
    """Return what a manager answers; one that doesn't isn't waited for without end: its client may have no timeout."""
    answer: Future[ManagedRunState | None] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="desist-manager-cancel", daemon=True).start()
    try:
        return answer.result(ANSWER)
    except TimeoutError:
        if answer.done():  # it was the manager's own
            raise
        raise StoreError(f"the cancellation manager hasn't answered for {ANSWER:g} s") from None


def _receipt(
    manager_thread: ManagerThread, run_id: str, request: CancelRequest, before: ManagedRunState | None
) -> CancelReceipt:
    if before is None or before.state == "asked":
        return CancelReceipt(Outcome.unknown, run_id, lambda: None)
    if before.state == "ended":
        status = RunStatus(before.status or "ERROR")
        record = msgspec.json.decode(before.record, type=CancelRecord) if before.record is not None else None
        ended = Latch()
        ended.set()
        outcome = Outcome.already_cancelled if status is RunStatus.cancelled else Outcome.finished
        return CancelReceipt(outcome, run_id, lambda: status, record, ended)
    first = before.state == "running"
    watch = manager_thread.watch(run_id, CancelRecord.of((request if first else decode_request(before.request)).reason))
    outcome = Outcome.accepted if first else Outcome.already_cancelling
    return CancelReceipt(outcome, run_id, lambda: watch.status, watch.record, watch.latch)


def _reset_after_fork() -> None:
    """In a forked child the thread is missing: a new one for the same manager."""
    global _manager_thread
    if _manager_thread is not None:
        _manager_thread = ManagerThread(_manager_thread.manager)


def _leave() -> None:
    if _manager_thread is not None:
        _manager_thread.close()


register_at_exit(_leave)
os.register_at_fork(after_in_child=_reset_after_fork)
