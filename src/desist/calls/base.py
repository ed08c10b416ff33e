"""What a run and the calls into user code know of each other."""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast

from desist.cancel import context
from desist.cancel.context import ConnectionOwner
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken

__all__ = ["Call", "CallOwner", "CallPart", "InterruptMode", "current_call_owner"]

#: How a call may be interrupted: by all layers, by its token only, or not at all.
InterruptMode = Literal["auto", "cooperative", "never"]


class CallPart(Protocol):
    """A part of a call that runs by itself: its own code, or something that the code has started."""

    name: str
    started_at: float  #: seconds since the epoch

    @property
    def kind(self) -> str:
        """Return "thread", "task" or "process"."""

    @property
    def ended(self) -> bool:
        """Whether it has returned, raised or exited."""

    def stack(self) -> str:
        """Return its stack as text; "" where that can't be read."""


class Call(Protocol):
    """A call into user code that a run waits for and can stop: in a thread, on a user loop or in a process."""

    name: str
    owner: CallOwner | None
    started_at: float  #: seconds since the epoch
    abandoned: bool  #: it could not be stopped, and still runs

    @property
    def kind(self) -> str:
        """Return "thread", "task" or "process"."""

    @property
    def token(self) -> CancelToken:
        """What tells the code to stop."""

    @property
    def interrupt_mode(self) -> InterruptMode:
        """How the call may be interrupted."""

    @property
    def ended(self) -> bool:
        """Whether user code has returned or raised, and all that it had started has ended, if it was cancelled."""

    @property
    def shield_deadline(self) -> float:
        """Before this time the call must not be abandoned, unless by a forced cancel; seconds of `time.monotonic`."""

    @property
    def kill_deadline(self) -> float:
        """Before this time a killed call must not be abandoned, not even by a forced cancel."""

    async def result(self) -> Any:
        """Wait for the call on this loop; return its result or raise its exception."""

    def shorten_grace(self, grace: float) -> None:
        """Make a call that is being interrupted end within `grace` seconds. From any thread."""

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Interrupt the call, and repeat that until it has ended. From any thread; returns at once."""

    def abandon(self) -> list[Abandoned]:
        """Mark the call abandoned and return a record of each part of it that hasn't ended.

        It must not block: the lock of the run is held.
        """

    def parts(self) -> list[CallPart]:
        """Return the parts of the call that haven't ended."""

    def stack(self) -> str:
        """Return the stack of the call as text; "" where that can't be read."""


class CallOwner(ConnectionOwner, Protocol):
    """The run that calls are made for."""

    def call_started(self, work: Call) -> None:
        """Register a call before it starts. Raises `RunCancelled` if no new work may start."""

    def call_ended(self, work: Call) -> None:
        """Remove a call that has ended. From the thread in which it ended; once, also for an abandoned call."""

    def user_connections_closed(self, count: int) -> None:
        """Add to the number of connections of user code that the cancel closed. From any thread, without a lock."""


def current_call_owner() -> CallOwner | None:
    """Return the run that this code works for, or None. Every owner that is set is a whole one."""
    return cast("CallOwner | None", context.current_owner())
