"""`BaseRunCancellationManager`: stores outside of this process which runs are to be cancelled.

The five plain methods are those of the followed API, so that a manager written for it works here. The others make
answers exact between processes. A manager without them is polled, and its answer to a cancel during the end of a run
may be True although the run completed.
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
    """The state of a run, as a manager stores it."""

    state: str  #: "asked": cancelled before its start; "running", "cancelling", "ending", "ended"
    request: str | None = None  #: JSON of the first request
    status: str | None = None  #: the final status
    record: str | None = None  #: JSON of the cancel record
    last: str | None = None  #: JSON of the newest request, which may shorten the grace of the first


@dataclass(frozen=True, slots=True)
class CancelRequestResult:
    """The result of a request: the state of the run just before it, or None for an unknown run."""

    before: ManagedRunState | None


@reject_unknown_options
class BaseRunCancellationManager:
    """Passes cancels between processes that share no database. All methods may block."""

    #: Seconds between two polls.
    look_every = 0.25

    # -- the followed API

    @abstractmethod
    def register_run(self, run_id: str) -> None:
        """Register a run that starts here. An earlier cancel of its id is kept."""

    @abstractmethod
    def cancel_run(self, run_id: str) -> bool:
        """Store a cancel of a run; return whether the run is known."""

    @abstractmethod
    def is_cancelled(self, run_id: str) -> bool:
        """Return whether there is a cancel of a run."""

    @abstractmethod
    def cleanup_run(self, run_id: str) -> None:
        """Delete a run that has ended."""

    @abstractmethod
    def get_active_runs(self) -> dict[str, bool]:
        """Return the runs that have not ended, each with whether there is a cancel of it."""

    def raise_if_cancelled(self, run_id: str) -> None:
        """Raise `RunCancelled` if there is a cancel of a run. Runs do not need this: they are interrupted."""
        if self.is_cancelled(run_id):
            raise RunCancelled(f"run {run_id} was cancelled")

    async def aregister_run(self, run_id: str) -> None:
        """Do the same in a thread."""
        await to_daemon_thread(lambda: self.register_run(run_id), "desist-manager-call")

    async def acancel_run(self, run_id: str) -> bool:
        """Do the same in a thread."""
        return await to_daemon_thread(lambda: self.cancel_run(run_id), "desist-manager-call")

    async def ais_cancelled(self, run_id: str) -> bool:
        """Do the same in a thread."""
        return await to_daemon_thread(lambda: self.is_cancelled(run_id), "desist-manager-call")

    async def acleanup_run(self, run_id: str) -> None:
        """Do the same in a thread."""
        await to_daemon_thread(lambda: self.cleanup_run(run_id), "desist-manager-call")

    async def aget_active_runs(self) -> dict[str, bool]:
        """Do the same in a thread."""
        return await to_daemon_thread(self.get_active_runs, "desist-manager-call")

    async def araise_if_cancelled(self, run_id: str) -> None:
        """Do the same in a thread."""
        await to_daemon_thread(lambda: self.raise_if_cancelled(run_id), "desist-manager-call")

    # -- exact answers

    def request_cancel(self, run_id: str, request: str) -> CancelRequestResult:
        """Store a cancel, unless the run has ended or has begun to finish."""
        return CancelRequestResult(ManagedRunState("running") if self.cancel_run(run_id) else None)

    def get_state(self, run_id: str) -> ManagedRunState | None:
        """Return the state of a run, or None."""
        active = self.get_active_runs().get(run_id)
        if active is None:
            return None
        return ManagedRunState("cancelling" if active or self.is_cancelled(run_id) else "running")

    def acknowledge(self, run_id: str, request: str) -> None:
        """Store that the process of a run is cancelling it."""

    def begin_finish(self, run_id: str) -> ManagedRunState:
        """Refuse cancels of a run from now on, because it is about to end. Return the state just before."""
        return ManagedRunState("cancelling" if self.is_cancelled(run_id) else "running")

    def abort_finish(self, run_id: str) -> None:
        """Accept cancels again, because the run did not end."""

    def finish(self, run_id: str, status: str, record: str | None) -> None:
        """Store the end of a run."""
        self.cleanup_run(run_id)

    def listen(self, called: Callable[[], None]) -> None:
        """Call `called()` from a thread of the manager's after each change. A manager without this is only polled."""

    def close(self) -> None:
        """Stop listening."""
