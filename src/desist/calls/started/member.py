"""What the members of a call's started work know of it."""

from __future__ import annotations

import contextvars
from typing import Any, Protocol

from desist.calls.base import InterruptMode
from desist.calls.thread_execution import WorkAround
from desist.cancel.token import CancelToken

__all__ = ["MemberOwner"]


class MemberOwner(WorkAround, Protocol):
    """The started work that a member belongs to. `StartedWork` is the whole."""

    interrupt_mode: InterruptMode
    abandoned: bool  #: what is left could not be stopped

    @property
    def token(self) -> CancelToken:
        """What tells the call to stop."""

    def variables(self) -> list[tuple[contextvars.ContextVar[Any], Any]]:
        """Return the context variables of desist in the call, with their values, for threads that it starts."""

    def member_ended(self, member: Any) -> None:
        """Remove a member that has ended. From any thread; again without effect."""
