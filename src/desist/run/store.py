"""Where runs are recorded, seen from below: a protocol, and the store in memory that is used when none is given.

A run is saved when it starts and before its end is told ("stored before shown"). A store that writes elsewhere does
so in a writer of its own and returns a future; it never runs inside the task that a cancel interrupts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.status import RunStatus

__all__ = ["MemoryStore", "RunStore", "StoredRun"]


@dataclass(slots=True, kw_only=True)
class StoredRun:
    """A run as it is stored: where it belongs, how it stands, and its output (`RunOutput`, `WorkflowRunOutput`)."""

    run_id: str
    kind: str  #: "workflow" or "agent"
    status: RunStatus
    output: Any
    root_run_id: str
    parent_run_id: str | None = None
    session_id: str | None = None


class RunStore(Protocol):
    """What the run needs of a database. Both methods may be called from any thread and must not block."""

    def save_run(self, run: StoredRun) -> Future[None] | None:
        """Record a run, replacing what is known of its id. None: done; else a future that ends when it is durable."""

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if it isn't known."""


class MemoryStore:
    """The last runs of this process, in memory.

    Parameters:
        keep: how many ended runs are kept; the oldest go first. Live runs are always kept.
    """

    def __init__(self, keep: int = 1000) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, StoredRun] = {}
        self._ended: OrderedDict[str, StoredRun] = OrderedDict()
        self._keep = keep

    def save_run(self, run: StoredRun) -> None:
        """Record a run."""
        with self._lock:
            if not run.status.is_final:
                self._ended.pop(run.run_id, None)
                self._live[run.run_id] = run
                return
            self._live.pop(run.run_id, None)
            self._ended[run.run_id] = run
            while len(self._ended) > self._keep:
                self._ended.popitem(last=False)

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if it isn't known (any more)."""
        with self._lock:
            return self._live.get(run_id) or self._ended.get(run_id)

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)
