"""Which of several branches code belongs to, where a run does work side by side. Set by
`desist.run.execution.parallel`.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Branch", "current_branch", "enter_branch"]


@dataclass(slots=True, eq=False)
class Branch:
    """One branch; `outer` is the one that it is inside of."""

    outer: Branch | None
    stopped: bool = False  #: by its siblings: nothing new may start in it, though what runs has swallowed its cancel

    def and_around(self) -> Iterator[Branch]:
        """Yield this one and those that it is inside of."""
        branch: Branch | None = self
        while branch is not None:
            yield branch
            branch = branch.outer

    @property
    def stop_requested(self) -> bool:
        """Whether this one or one around it was stopped."""
        return any(branch.stopped for branch in self.and_around())


_current: contextvars.ContextVar[Branch | None] = contextvars.ContextVar("desist_branch", default=None)


def current_branch() -> Branch | None:
    """Return the branch that this code belongs to, or None."""
    return _current.get()


def enter_branch(branch: Branch | None) -> None:
    """Make `branch` the one of this context."""
    _current.set(branch)
