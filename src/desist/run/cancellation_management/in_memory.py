"""The manager of programs that set none: this process, whose runs need no note to be stopped."""

from __future__ import annotations

from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.run.cancellation_management.base import BaseRunCancellationManager
from desist.run.cancellation_management.cancel import cancel

__all__ = ["InMemoryRunCancellationManager"]

_STOPPING = (RunStatus.cancelling, RunStatus.cancelled)


class InMemoryRunCancellationManager(BaseRunCancellationManager):
    """The runs of this process, by the methods of the API. They register and end by themselves."""

    def register_run(self, run_id: str) -> None:
        """Runs register themselves."""

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run; return whether it ends, or has ended, `CANCELLED`."""
        return bool(cancel(run_id))

    def is_cancelled(self, run_id: str) -> bool:
        """Whether a live run is being cancelled."""
        live = registry.get(run_id)
        return live is not None and live.scope.status in _STOPPING

    def cleanup_run(self, run_id: str) -> None:
        """Runs that end are forgotten by themselves."""

    def get_active_runs(self) -> dict[str, bool]:
        """Return the live runs, each with whether it is being cancelled."""
        return {run.run_id: run.scope.status in _STOPPING for run in registry.live()}
