"""The current branch of parallel work: a context variable that `desist.run.execution.parallel` sets."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Branch", "current_branch", "enter_branch"]


@dataclass(slots=True, eq=False)
class Branch:
    """One branch of parallel work."""

    outer: Branch | None  #: the branch in which this one was started
    stopped: bool = False  #: by its siblings: nothing new may start in it, even if running code swallowed its cancel

    def with_outer(self) -> Iterator[Branch]:
        """Yield this branch and the branches around it, the innermost first."""
        branch: Branch | None = self
        while branch is not None:
            yield branch
            branch = branch.outer

    @property
    def stop_requested(self) -> bool:
        """Whether this branch or a branch around it was stopped."""
        return any(branch.stopped for branch in self.with_outer())


_current: contextvars.ContextVar[Branch | None] = contextvars.ContextVar("desist_branch", default=None)


def current_branch() -> Branch | None:
    """Return the branch in which this code runs, or None."""
    return _current.get()


def enter_branch(branch: Branch | None) -> None:
    """Make `branch` the branch of this context."""
    _current.set(branch)
