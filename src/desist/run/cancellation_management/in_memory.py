"""The manager of programs that have set none, for the runs of this process."""

from __future__ import annotations

from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.run.cancellation_management.base import BaseRunCancellationManager
from desist.run.cancellation_management.cancel import cancel_run
from desist.run.records.ids import require_id

__all__ = ["InMemoryRunCancellationManager"]

_STOPPING = (RunStatus.cancelling, RunStatus.cancelled)


class InMemoryRunCancellationManager(BaseRunCancellationManager):
    """The runs of this process. They register and unregister themselves, so nothing is stored here."""

    def register_run(self, run_id: str) -> None:
        """Do nothing: runs register themselves."""

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run; return whether it ends, or has ended, `CANCELLED`."""
        return cancel_run(run_id)

    def is_cancelled(self, run_id: str) -> bool:
        """Return whether a live run is being cancelled."""
        live = registry.get(require_id(run_id, "run_id"))
        return live is not None and live.scope.status in _STOPPING

    def cleanup_run(self, run_id: str) -> None:
        """Do nothing: runs unregister themselves."""

    def get_active_runs(self) -> dict[str, bool]:
        """Return the live runs, each with whether it is being cancelled."""
        return {run.run_id: run.scope.status in _STOPPING for run in registry.live()}
