"""What a run and the calls into user code know of each other."""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast

from desist.cancel import context
from desist.cancel.receipt import Abandoned
from desist.cancel.token import CancelToken

__all__ = ["Call", "CallOwner", "InterruptMode", "current_call_owner"]

#: How a call may be interrupted: by all layers, by its token only, or not at all.
InterruptMode = Literal["auto", "cooperative", "never"]


class Call(Protocol):
    """Work that a run waits for and can stop: a call in a thread, on a user loop, in a process."""

    name: str
    owner: CallOwner | None
    token: CancelToken
    interrupt_mode: InterruptMode
    started_at: float  #: seconds since the epoch
    abandoned: bool  #: given up, and still running
    ended: bool

    @property
    def kind(self) -> str:
        """Return "thread", "task" or "process"."""

    @property
    def shield_deadline(self) -> float:
        """Until when it must not be given up, in seconds of `time.monotonic`."""

    @property
    def kill_deadline(self) -> float:
        """Until when it may take to die after it was killed: not even a forced cancel gives it up before."""

    async def result(self) -> Any:
        """Wait for it and return what it returned, or raise what it raised."""

    def shorten_grace(self, grace: float) -> None:
        """End within `grace` seconds, if it is being stopped: the grace was shortened."""

    def interrupt(self, grace: float, *, force: bool = False) -> None:
        """Get it to end, and keep at it. From any thread; returns at once."""

    def abandon(self) -> Abandoned:
        """Give it up; return how it stands."""

    def stack(self) -> str:
        """Return where it is now, as text; "" where that can't be seen."""


class CallOwner(Protocol):
    """The run that work is done for."""

    def call_started(self, work: Call) -> None:
        """Take it on. Raises `RunCancelled` if no new work may start."""

    def call_ended(self, work: Call) -> None:
        """It has ended."""

    def connections_closed(self, count: int) -> None:
        """The canceller shut so many connections to providers down."""


def current_call_owner() -> CallOwner | None:
    """Return the run that this code works for, or None. Every owner that is set is a whole one."""
    return cast("CallOwner | None", context.current_owner())
