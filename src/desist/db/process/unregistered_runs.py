"""`UnregisteredRuns`: runs of this process that are not lost, although the registry of live runs does not have them."""

from __future__ import annotations

from desist.runtime.fork_hooks import register_at_fork

__all__ = ["UnregisteredRuns", "unregistered_runs"]


class UnregisteredRuns:
    """The ids of runs before their start and after their end. Methods may be called from any thread.

    There is no lock: each operation on a set is atomic.
    """

    def __init__(self) -> None:
        self._starting: set[str] = set()
        self._unwritten: set[str] = set()

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._starting or run_id in self._unwritten

    def add_starting(self, run_id: str) -> None:
        """Add a run whose record this process has claimed, before the run is started."""
        self._starting.add(run_id)

    def remove_starting(self, run_id: str) -> None:
        """Remove a run that was started, or will not be. A second call does nothing."""
        self._starting.discard(run_id)

    def add_unwritten(self, run_id: str) -> None:
        """Add a run that has ended here and whose end could not be written yet."""
        self._unwritten.add(run_id)

    def remove_unwritten(self, run_id: str) -> None:
        """Remove a run whose end was written, or is not retried any more. A second call does nothing."""
        self._unwritten.discard(run_id)

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the runs are the parent's."""
        self._starting.clear()
        self._unwritten.clear()


#: The runs of this process.
unregistered_runs = UnregisteredRuns()
register_at_fork(after_in_child=unregistered_runs.reset_after_fork)
