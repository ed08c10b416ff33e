"""Public import path of the protocols that a store of runs implements."""

from desist.run.storage.store import (
    Database,
    MemoryStore,
    PartKind,
    RunQuery,
    RunStore,
    SessionUpdate,
    StoredRun,
    StoredSession,
    read,
    store_of,
)

__all__ = [
    "Database",
    "MemoryStore",
    "PartKind",
    "RunQuery",
    "RunStore",
    "SessionUpdate",
    "StoredRun",
    "StoredSession",
    "read",
    "store_of",
]
