"""`InMemoryDb`: sessions and runs in the memory of this process."""

from __future__ import annotations

from desist.db.base import BaseDb
from desist.run.storage.memory import MemoryStore

__all__ = ["InMemoryDb"]


class InMemoryDb(BaseDb):
    """Keeps everything in memory, until the process ends. An agent or workflow without a `db` has a store of its own
    like this one that keeps only the last 1,000 runs.

    Parameters:
        keep: how many ended runs, and how many sessions, are kept; the oldest are removed. None keeps all.
    """

    def __init__(self, keep: int | None = None) -> None:
        super().__init__(MemoryStore(keep))
