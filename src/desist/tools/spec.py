"""Protocols of a tool and a toolkit, implemented by `Function` and `Toolkit`, for other modules of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from desist.calls.base import InterruptMode
    from desist.tools.isolation import Isolation

__all__ = ["OwningToolkit", "ToolSpec"]


class ToolSpec(Protocol):
    """The attributes of a tool that a call reads."""

    @property
    def name(self) -> str:
        """The name that the model uses."""

    @property
    def entrypoint(self) -> Callable[..., Any]:
        """The callable behind the tool."""

    @property
    def is_async(self) -> bool:
        """Whether the entrypoint returns an awaitable or an async generator."""

    @property
    def pre_hook(self) -> Callable[..., Any] | None:
        """Called before the entrypoint."""

    @property
    def post_hook(self) -> Callable[..., Any] | None:
        """Called after the entrypoint, unless it raised."""

    @property
    def isolation(self) -> Isolation | None:
        """Where a sync tool runs."""

    @property
    def grace(self) -> float | None:
        """Seconds between SIGTERM and SIGKILL for a tool in a process."""

    @property
    def interrupt(self) -> InterruptMode:
        """How a cancel may interrupt a sync tool."""


class OwningToolkit(Protocol):
    """The attributes of a toolkit that its tools read."""

    name: str
    instructions: str | None
    add_instructions: bool
