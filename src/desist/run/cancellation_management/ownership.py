"""Ownership of runs whose cancels go through a manager, for stores that processes do not share.

A run registers with the manager when it starts, and asks the manager before it ends whether the run was cancelled. All
calls of the manager for runs of this process are made by one thread, so that no run's loop ever blocks on the manager.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec

from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import StoreError
from desist.run.cancellation_management.client_thread import CANCELLED, ManagerThread, decode_request
from desist.run.storage.shared_store import ClaimResult
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.runtime.background_loop import register_at_exit
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.run.cancellation_management.base import BaseRunCancellationManager, ManagedRunState

__all__ = [
    "ManagedOwnership",
    "get_manager",
    "has_cancellation_manager",
    "managed_ownership",
    "request_cancel",
    "set_manager",
]

log = logging.getLogger("desist.run")

#: Seconds that a cancel waits for a run that is about to end, and the seconds between two polls.
FINISH_TIMEOUT, PAUSE = 5.0, 0.01
#: Seconds that a cancel waits for an answer of the manager.
ANSWER_TIMEOUT = 10.0


class ManagedOwnership:
    """The methods of `SharedStore` that runs use, for a store that processes do not share, and a manager."""

    def __init__(self, manager_thread: ManagerThread, store: RunStore) -> None:
        self._manager_thread, self._store = manager_thread, store

    def claim_run(self, run: StoredRun, *, soon: bool = False) -> Future[ClaimResult]:
        """Store that a run starts, and register the run with the manager."""
        self._store.save_run(run)
        return self._manager_thread.do(lambda done: done.set_result(self._manager_thread.claim(run.run_id)))

    def end_run(self, run_id: str, decide: Callable[[], StoredRun | None]) -> Future[CancelRequest | None]:
        """End a run unless the manager has a cancel of it.

        `decide` is called in the manager's thread, after the manager has confirmed that no cancel came. From then on
        the manager accepts no cancel, until `abort_finish` (if `decide` returns None) or the end of the run.
        """
        manager = self._manager_thread.manager

        def work(done: Future[CancelRequest | None]) -> None:
            before = manager.begin_finish(run_id)
            if before.state in CANCELLED:
                done.set_result(decode_request(before.request))
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
        """Store an end that was announced before it was stored."""
        self._store.save_run(run)

    def is_owned_elsewhere(self, run_id: str) -> bool:
        """Return False: without leases no process takes a run from another one."""
        return False

    poll_is_overdue = False  #: `ManagerThread` polls the manager by itself

    def poll_now(self) -> None:
        """Do nothing."""

    def may_be_lost(self, run_id: str) -> bool:
        """Return False; see `is_owned_elsewhere`."""
        return False

    def record_cancel(self, run_id: str, request: CancelRequest) -> None:
        """Pass on to the manager, without waiting, that this process is cancelling a run."""
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


def set_manager(manager: BaseRunCancellationManager | None) -> None:
    """Start a thread for a manager, which is used by runs that start from now on; None for no manager.

    Not thread-safe: called by programs when they start. The thread of the previous manager ends after its queued work.
    """
    global _manager_thread
    before, _manager_thread = _manager_thread, None if manager is None else ManagerThread(manager)
    if before is not None:
        before.close()


def get_manager() -> BaseRunCancellationManager | None:
    """Return the manager that was set, or None."""
    return None if _manager_thread is None else _manager_thread.manager


def has_cancellation_manager() -> bool:
    """Return whether a manager was set."""
    return _manager_thread is not None


def managed_ownership(store: RunStore) -> ManagedOwnership | None:
    """Return the ownership of a run of this store, or None if no manager was set."""
    return None if _manager_thread is None else ManagedOwnership(_manager_thread, store)


def request_cancel(run_id: str, request: CancelRequest) -> CancelReceipt | None:
    """Cancel a run of another process. Block for the manager's answer. Return None if there is no manager.

    Raises:
        StoreError: the manager does not answer, or the process of a run that was about to end has died.
    """
    manager_thread = _manager_thread
    if manager_thread is None:
        return None
    text, deadline = msgspec.json.encode(request).decode(), time.monotonic() + FINISH_TIMEOUT
    while True:
        try:
            before = _answer(lambda: manager_thread.manager.request_cancel(run_id, text).before)
        except Exception as error:
            raise StoreError(f"run {run_id}: the cancellation manager did not confirm the request: {error}") from error
        if before is None or before.state != "ending":
            return _receipt(manager_thread, run_id, request, before)
        if time.monotonic() > deadline:
            raise StoreError(
                f"run {run_id}: its owner began to finish and then stopped responding; it is unknown whether the "
                "cancel took effect: check the run's status later"
            )
        time.sleep(PAUSE)


def _answer(ask: Callable[[], ManagedRunState | None]) -> ManagedRunState | None:
    """Call `ask` in a thread and return its answer. The wait is bounded, because a manager may have no timeout."""
    answer: Future[ManagedRunState | None] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="desist-manager-cancel", daemon=True).start()
    try:
        return answer.result(ANSWER_TIMEOUT)
    except TimeoutError:
        if answer.done():  # raised by the manager
            raise
        raise StoreError(f"the cancellation manager has not answered for {ANSWER_TIMEOUT:g} s") from None


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
    """Start a new thread for the same manager: a forked child has no threads of its parent."""
    global _manager_thread
    if _manager_thread is not None:
        _manager_thread = ManagerThread(_manager_thread.manager)


def _close_at_exit() -> None:
    if _manager_thread is not None:
        _manager_thread.close()


register_at_exit(_close_at_exit)
register_at_fork(after_in_child=_reset_after_fork)
