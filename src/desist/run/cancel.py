"""Cancelling a run by any id of its tree, from any thread. `desist.run.cancellation_management` is another name."""

from __future__ import annotations

from typing import Literal

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.exceptions import ConfigurationError

__all__ = ["Cancelling", "acancel_run", "cancel", "cancel_run"]


def cancel(
    run_id: str,
    *,
    reason: str | None = None,
    by: str | None = None,
    grace: float | None = None,
    force: bool = False,
    scope: Literal["tree", "run"] = "tree",
    compensate: bool = False,
) -> CancelReceipt:
    """Cancel a run. Decides and interrupts at once, and returns without waiting; `receipt.wait()` waits.

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

    Raises:
        ConfigurationError: a value can't be used.
    """
    if not isinstance(run_id, str) or not run_id:
        raise ConfigurationError(f"a run id is a text such as event.run_id, not {run_id!r:.80}")
    if scope not in ("tree", "run"):
        raise ConfigurationError(f"scope={scope!r} isn't known: use 'tree' or 'run'")
    if grace is not None and grace < 0:
        raise ConfigurationError(f"grace={grace} must not be negative")
    why = CancelReason(source=Source.user, text=reason, by=by)
    return registry.cancel(run_id, why, reach=scope, grace=grace, force=force, compensate=compensate)


def cancel_run(run_id: str) -> bool:
    """Cancel a run; return whether it ends, or has ended, `CANCELLED`."""
    return bool(cancel(run_id))


async def acancel_run(run_id: str) -> bool:
    """The same for async code. It doesn't wait: `await cancel(run_id)` does."""
    return bool(cancel(run_id))


class Cancelling:
    """The same for agents and workflows: any id will do, whoever started its run."""

    #: Cancel a run by any id of its tree, with reason, grace, scope; see `desist.run.cancel.cancel`.
    cancel = staticmethod(cancel)
    #: Cancel a run by any id of its tree; return whether it ends, or has ended, `CANCELLED`.
    cancel_run = staticmethod(cancel_run)
    #: The same for async code.
    acancel_run = staticmethod(acancel_run)
