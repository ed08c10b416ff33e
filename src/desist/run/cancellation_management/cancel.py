"""Cancelling a run by any id of its tree, from any thread; with a database, from any process.

`desist.run.cancellation_management` has the same names, and managers: for cancelling through Redis, say.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.exceptions import ConfigurationError
from desist.run.cancellation_management.ownership import has_cancellation_manager, request_cancel
from desist.run.storage.shared_store import SharedStore, refuse_on_loop, shared_store
from desist.run.storage.store import Database, RunStore, store_of
from desist.run.storage.values import CancelRequest
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["CancelMethods", "acancel", "acancel_run", "cancel", "cancel_run"]

P = ParamSpec("P")
T = TypeVar("T")


class _bound_to_database(Generic[P, T]):
    """`cancel` and the like as methods: those of an agent or workflow that has a database look into that, too."""

    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function

    def __get__(self, owner: Any, kind: type | None = None) -> Callable[P, T]:
        if owner is None or owner.db is None:
            return self._function
        return functools.partial(self._function, db=owner.db)


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
    """Cancel a run. Decides at once and returns without waiting for its end; `receipt.wait()` waits.

    From then on nothing of it starts anything. What goes on is interrupted before this returns or, if there is much,
    by helper threads meanwhile.

    A run of another process is found in the database that both use. The request is durable when this returns, and the
    other process is woken; if it doesn't answer, this one ends the run in its place. That waits for the database, for
    some seconds if it doesn't answer: async code awaits `acancel` instead, and is refused here.

    Parameters:
        run_id: any id seen on an event of the tree. An id not seen yet is remembered for a minute: a run that
            starts with it starts cancelled.
        reason: why, in free words.
        by: who asks.
        grace: seconds for cleanup, before what is left is abandoned; None for the run's own. On a run that is
            being cancelled already it can only shorten the wait.
        force: leave no time for cleanup.
        scope: "tree" stops the whole run; "run" only the one named and what hangs below it. Its parent is then
            cancelled too, unless the step that runs it says on_cancel="skip".
        compensate: undo what finished: the steps' `compensate` functions run in reverse, within the grace.
        db: where to look for runs that aren't of this process.

    Raises:
        ConfigurationError: a value can't be used.
        RuntimeError: a database or cancellation manager must be asked, and this thread runs an event loop.
        StoreError: a run of another process, and the request isn't known to be recorded.
    """
    _check(run_id, scope, grace)
    why = CancelReason(source=Source.user, text=reason, by=by)
    shared = shared_store(store_of(db, "cancel()")) if db is not None else None
    if _is_decided_here(run_id, shared):
        return registry.cancel(run_id, why, reach=scope, grace=grace, force=force, compensate=compensate)
    refuse_on_loop(run_id)
    live: Any = registry.get(run_id)
    taken = _new_owner_store(live.root) if live is not None else None
    shared = taken or shared
    if live is None or taken is not None:
        request = CancelRequest(reason=why, reach=scope, grace=grace, force=force, compensate=compensate)
        far = request_cancel(run_id, request) if shared is None else shared.request_cancel(run_id, request)
        if far is not None and (shared is not None or far.outcome is not Outcome.unknown):
            return far
    return registry.cancel(run_id, why, reach=scope, grace=grace, force=force, compensate=compensate)


def _check(run_id: str, scope: str, grace: float | None) -> None:
    if not isinstance(run_id, str) or not run_id:
        raise ConfigurationError(f"a run id is a text such as event.run_id, not {run_id!r:.80}")
    if scope not in ("tree", "run"):
        raise ConfigurationError(f"scope={scope!r} isn't known: use 'tree' or 'run'")
    if grace is not None and grace < 0:
        raise ConfigurationError(f"grace={grace} must not be negative")


def _is_decided_here(run_id: str, shared: SharedStore | None) -> bool:
    """Whether nobody outside of this process need be asked. Quick."""
    live: Any = registry.get(run_id)
    if live is not None:
        root = live.root
        return root.shared is None or not root.shared.may_be_lost(root.run_id)
    return shared is None and not has_cancellation_manager()


def _new_owner_store(root: Any) -> SharedStore | None:
    """Return the store where a run of this process can be cancelled if another process has it now; else None."""
    shared: SharedStore | None = root.shared
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
    """Do the same for async code: a database is asked beside this event loop, which is never blocked.

    Returns the receipt without waiting for the run's end; `await receipt` waits. If the task that awaits this is
    cancelled meanwhile, the request may be recorded all the same.
    """
    how: dict[str, Any] = {"grace": grace, "force": force, "scope": scope, "compensate": compensate, "db": db}
    shared = shared_store(store_of(db, "acancel()")) if db is not None else None
    if not isinstance(run_id, str) or _is_decided_here(run_id, shared):
        return cancel(run_id, reason=reason, by=by, **how)
    return await to_daemon_thread(lambda: cancel(run_id, reason=reason, by=by, **how), "desist-db-cancel")


def cancel_run(run_id: str, *, db: Database | RunStore | None = None) -> bool:
    """Cancel a run; return whether it ends, or has ended, `CANCELLED`. With `db`, also one of another process."""
    return bool(cancel(run_id, db=db))


async def acancel_run(run_id: str, *, db: Database | RunStore | None = None) -> bool:
    """The same for async code. It doesn't wait for the end: `await (await acancel(run_id))` does."""
    return bool(await acancel(run_id, db=db))


class CancelMethods:
    """The same for agents and workflows: any id will do, whoever started its run."""

    #: Cancel a run by any id of its tree, with reason, grace, scope; see `desist.run.cancel.cancel`.
    cancel = _bound_to_database(cancel)
    #: The same for async code, which a database never blocks.
    acancel = _bound_to_database(acancel)
    #: Cancel a run by any id of its tree; return whether it ends, or has ended, `CANCELLED`.
    cancel_run = _bound_to_database(cancel_run)
    #: The same for async code.
    acancel_run = _bound_to_database(acancel_run)
