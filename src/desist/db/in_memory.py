"""`InMemoryDb`: sessions and runs of this process, gone with it."""

from __future__ import annotations

from desist.db.base import BaseDb
from desist.run.storage.memory import MemoryStore

__all__ = ["InMemoryDb"]


class InMemoryDb(BaseDb):
    """Keeps everything in memory. An agent or workflow without a `db` has a store of its own that is like this one,
    but keeps only the last 1,000 runs.

    Parameters:
        keep: how many ended runs, and how many sessions, are kept; the oldest go first. None keeps all.
    """

    def __init__(self, keep: int | None = None) -> None:
        super().__init__(MemoryStore(keep))
