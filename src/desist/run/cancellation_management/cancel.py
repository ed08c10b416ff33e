"""Cancel a run by any id of its tree, from any thread; with a database, from any process.

The public names are in `desist.run.cancel` and `desist.run.cancellation_management`.
"""

from __future__ import annotations

from typing import Any, Literal

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError
from desist.run.cancellation_management.ownership import has_cancellation_manager, request_cancel
from desist.run.options.numbers import check_number
from desist.run.records.ids import require_id
from desist.run.storage.live_run import LiveRun, live_run
from desist.run.storage.paused_runs import paused_runs
from desist.run.storage.shared_store import SharedStore, StoreMustDecideError, refuse_on_loop, shared_store
from desist.run.storage.store import Database, RunStore, store_of
from desist.run.storage.values import CancelRequest
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["acancel", "acancel_run", "cancel", "cancel_run", "check_cancel_options"]


def cancel(
    run_id: str,
    *,
    reason: str | None = None,
    by: str | None = None,
    grace: float | None = None,
    force: bool = False,
    scope: Literal["tree", "run"] = "tree",
    compensate: bool = False,
    db: Database | RunStore | None = None,
) -> CancelReceipt:
    """Cancel a run. Decide at once and return without waiting for the run's end; `receipt.wait()` waits.

    After the decision the run starts nothing new. Running calls are interrupted before this function returns or, if
    there are many, by helper threads soon after.

    A run of another process is found in the database that both processes use. The request is durable when this
    function returns, and the other process is notified; if that process does not answer, this one ends the run in its
    place. The wait for the database takes seconds if the database does not answer. Async code awaits `acancel`
    instead; a call of `cancel` on an event loop is refused.

    Parameters:
        run_id: any id seen on an event of the tree. An unknown id is remembered for a minute: a run that starts with
            this id starts cancelled.
        reason: the reason, as free text.
        by: the name of the requester.
        grace: seconds for cleanup, before running calls are abandoned; None for the run's own grace. On a run that is
            already being cancelled it can only shorten the wait.
        force: leave no time for cleanup.
        scope: "tree" cancels the whole run; "run" only the named run and those below it. The parent is then cancelled
            too, unless its step has on_cancel="skip".
        compensate: undo finished steps: their `compensate` functions run in reverse order, within the grace.
        db: the database of runs of other processes.

    Raises:
        ConfigurationError: a value can't be used.
        RuntimeError: a database or cancellation manager must be asked, and this thread runs an event loop.
        StoreError: the run is of another process, and the request is not confirmed as stored.
    """
    run_id = require_id(run_id, "run_id")
    check_cancel_options(scope, grace)
    why = CancelReason(source=Source.user, text=reason, by=by)
    shared = shared_store(store_of(db, "cancel()")) if db is not None else None
    request = CancelRequest(reason=why, reach=scope, grace=grace, force=force, compensate=compensate)
    if _is_decided_here(run_id, shared):
        paused = paused_runs.cancel(run_id, request)
        if paused is not None:
            return paused
        return registry.cancel(run_id, why, reach=scope, grace=grace, force=force, compensate=compensate)
    refuse_on_loop(run_id)
    live = live_run(run_id)
    shared = shared or paused_runs.store_of(run_id)
    new_owner = _new_owner_store(live.root) if live is not None else None
    shared = new_owner or shared
    if live is None or new_owner is not None:
        receipt = request_cancel(run_id, request) if shared is None else shared.request_cancel(run_id, request)
        if receipt is not None and (shared is not None or receipt.outcome is not Outcome.unknown):
            return receipt
    return registry.cancel(run_id, why, reach=scope, grace=grace, force=force, compensate=compensate)


def check_cancel_options(scope: str, grace: float | None) -> None:
    """Raise `ConfigurationError` if one of them can't be used."""
    if scope not in ("tree", "run"):
        raise ConfigurationError(f"scope={scope!r} is unknown: use 'tree' or 'run'")
    check_number(grace, "grace")


def _is_decided_here(run_id: str, shared: SharedStore | None) -> bool:
    """Return whether this process can decide alone. Does not block."""
    live = live_run(run_id)
    if live is not None:
        root = live.root
        if root.scope.status is RunStatus.paused:
            return root.shared is None
        return root.shared is None or not root.shared.may_be_lost(root.run_id)
    return shared is None and not has_cancellation_manager() and paused_runs.store_of(run_id) is None


def _new_owner_store(root: LiveRun) -> SharedStore | None:
    """Return the store in which another process owns this run of ours, or None if it is still ours."""
    shared = shared_store(root.store)
    return shared if shared is not None and shared.is_owned_elsewhere(root.run_id) else None


async def acancel(
    run_id: str,
    *,
    reason: str | None = None,
    by: str | None = None,
    grace: float | None = None,
    force: bool = False,
    scope: Literal["tree", "run"] = "tree",
    compensate: bool = False,
    db: Database | RunStore | None = None,
) -> CancelReceipt:
    """Cancel a run from async code; see `cancel`. A database is asked in another thread, never on this event loop.

    Return the receipt without waiting for the run's end; `await receipt` waits. If the awaiting task is cancelled, the
    request may be stored all the same.
    """
    options: dict[str, Any] = {"grace": grace, "force": force, "scope": scope, "compensate": compensate, "db": db}
    shared = shared_store(store_of(db, "acancel()")) if db is not None else None
    run_id = require_id(run_id, "run_id")
    if _is_decided_here(run_id, shared):
        try:
            return cancel(run_id, reason=reason, by=by, **options)
        except StoreMustDecideError:  # it has paused just now
            pass
    return await to_daemon_thread(lambda: cancel(run_id, reason=reason, by=by, **options), "desist-db-cancel")


def cancel_run(run_id: str, *, db: Database | RunStore | None = None) -> bool:
    """Cancel a run; return whether it ends, or has ended, `CANCELLED`. With `db`, also a run of another process."""
    return bool(cancel(run_id, db=db))


async def acancel_run(run_id: str, *, db: Database | RunStore | None = None) -> bool:
    """Do what `cancel_run` does, for async code. Does not wait for the end: `await (await acancel(run_id))` does."""
    return bool(await acancel(run_id, db=db))
