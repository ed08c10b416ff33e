"""A run as its parts see it. Each part's module adds, in a protocol of its own, the other parts that it uses.

So the parts need not import `Run`, which has them, and a protocol shows what a part depends on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from desist.cancel.scope import Scope
from desist.cancel.token import CancelToken
from desist.run.execution.body import RunBody
from desist.run.storage.live_run import LiveRun
from desist.run.storage.store import PartKind
from desist.runtime.run_tasks import RunTasks

__all__ = ["RunCore"]


class RunCore(LiveRun, Protocol):
    """What all parts of a run share."""

    grace: float
    created_at: float
    lock: threading.Lock
    token: CancelToken
    tasks: RunTasks
    error: BaseException | None

    @property
    def body(self) -> RunBody:
        """The work."""

    @property
    def scope(self) -> Scope[RunCore]:
        """The run as the decisions see it."""

    @property
    def root(self) -> RunCore:
        """The run at the top of the tree."""

    def advance(self) -> None:
        """Do the next action, if one is due."""

    def checkpoint(self, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Store what has finished."""
