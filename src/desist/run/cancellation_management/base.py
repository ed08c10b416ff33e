"""What a cancellation manager is: a place outside of this process where it is noted which runs are to be stopped.

The five plain methods are those of the API that we follow: whoever has written a manager for it can use it here. The
others make answers true between processes; a manager without them is asked by polling, and a cancel through it that
comes while the run ends may be answered with True although the run completed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from desist.exceptions import RunCancelled
from desist.run.options.strict import reject_unknown_options
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["BaseRunCancellationManager", "CancelRequestResult", "ManagedRunState"]


@dataclass(frozen=True, slots=True)
class ManagedRunState:
    """What a manager knows of a run."""

    state: str  #: "asked": cancelled before its start; "running", "cancelling", "ending", "ended"
    request: str | None = None  #: JSON of the cancel
    status: str | None = None  #: with which it has ended
    record: str | None = None  #: JSON of the cancel as it was carried out
    last: str | None = None  #: JSON of the newest request, which may shorten the grace of the first


@dataclass(frozen=True, slots=True)
class CancelRequestResult:
    """What became of a request: what was known of the run just before it, or None."""

    before: ManagedRunState | None


@reject_unknown_options
class BaseRunCancellationManager:
    """Where processes that share no database tell one another which runs are to be stopped. All methods may block."""

    #: Seconds between two looks at what was asked for, in case nobody has called.
    look_every = 0.25

    # -- the API's own

    @abstractmethod
    def register_run(self, run_id: str) -> None:
        """A run starts here. A cancel that came before it stays."""

    @abstractmethod
    def cancel_run(self, run_id: str) -> bool:
        """Note that a run is to be stopped; return whether it is known."""

    @abstractmethod
    def is_cancelled(self, run_id: str) -> bool:
        """Whether that is noted."""

    @abstractmethod
    def cleanup_run(self, run_id: str) -> None:
        """A run has ended: forget it."""

    @abstractmethod
    def get_active_runs(self) -> dict[str, bool]:
        """Return the runs that are known and have not ended, each with whether it is to be stopped."""

    def raise_if_cancelled(self, run_id: str) -> None:
        """Raise `RunCancelled` if a run is to be stopped. Runs don't need it: they are interrupted."""
        if self.is_cancelled(run_id):
            raise RunCancelled(f"run {run_id} was cancelled")

    async def aregister_run(self, run_id: str) -> None:
        """The same, awaited."""
        await to_daemon_thread(lambda: self.register_run(run_id), "desist-manager-call")

    async def acancel_run(self, run_id: str) -> bool:
        """The same, awaited."""
        return await to_daemon_thread(lambda: self.cancel_run(run_id), "desist-manager-call")

    async def ais_cancelled(self, run_id: str) -> bool:
        """The same, awaited."""
        return await to_daemon_thread(lambda: self.is_cancelled(run_id), "desist-manager-call")

    async def acleanup_run(self, run_id: str) -> None:
        """The same, awaited."""
        await to_daemon_thread(lambda: self.cleanup_run(run_id), "desist-manager-call")

    async def aget_active_runs(self) -> dict[str, bool]:
        """The same, awaited."""
        return await to_daemon_thread(self.get_active_runs, "desist-manager-call")

    async def araise_if_cancelled(self, run_id: str) -> None:
        """The same, awaited."""
        await to_daemon_thread(lambda: self.raise_if_cancelled(run_id), "desist-manager-call")

    # -- what makes the answers true

    def request_cancel(self, run_id: str, request: str) -> CancelRequestResult:
        """Note a cancel, unless the run has ended or is just ending."""
        return CancelRequestResult(ManagedRunState("running") if self.cancel_run(run_id) else None)

    def get_state(self, run_id: str) -> ManagedRunState | None:
        """Return what is known of a run."""
        active = self.get_active_runs().get(run_id)
        if active is None:
            return None
        return ManagedRunState("cancelling" if active or self.is_cancelled(run_id) else "running")

    def acknowledge(self, run_id: str, request: str) -> None:
        """A run is being cancelled by its own process."""

    def begin_finish(self, run_id: str) -> ManagedRunState:
        """A run is about to end: from now on no cancel is taken. Return what was known just before."""
        return ManagedRunState("cancelling" if self.is_cancelled(run_id) else "running")

    def abort_finish(self, run_id: str) -> None:
        """It didn't end after all: cancels are taken again."""

    def finish(self, run_id: str, status: str, record: str | None) -> None:
        """A run has ended."""
        self.cleanup_run(run_id)

    def listen(self, called: Callable[[], None]) -> None:
        """Call `called()` from a thread of the manager's whenever something was noted. Without it, it is polled."""

    def close(self) -> None:
        """Listen no more."""
