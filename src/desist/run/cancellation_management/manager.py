"""Setting the cancellation manager of this process."""

from __future__ import annotations

from desist.exceptions import ConfigurationError
from desist.run.cancellation_management.base import BaseRunCancellationManager
from desist.run.cancellation_management.in_memory import InMemoryRunCancellationManager
from desist.run.cancellation_management.ownership import get_manager, set_manager

__all__ = ["get_cancellation_manager", "set_cancellation_manager"]


def set_cancellation_manager(manager: BaseRunCancellationManager | None) -> None:
    """Use a manager for the cancels of runs that start from now on; None: cancel runs of this process only.

    Runs of an agent or workflow with a database that processes share use the database instead.

    Raises:
        ConfigurationError: `manager` is not a manager.
    """
    if manager is not None and not isinstance(manager, BaseRunCancellationManager):
        raise ConfigurationError(f"a cancellation manager must be a BaseRunCancellationManager, not {manager!r:.80}")
    set_manager(None if isinstance(manager, InMemoryRunCancellationManager) else manager)


def get_cancellation_manager() -> BaseRunCancellationManager:
    """Return the manager that was set, or one for the runs of this process."""
    return get_manager() or InMemoryRunCancellationManager()
