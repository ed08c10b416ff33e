"""`InMemoryDb`: sessions and runs in the memory of this process."""

from __future__ import annotations

from dataclasses import replace

from desist.db.base import BaseDb
from desist.db.records.codec import decode_output, encode
from desist.run.records.json_values import to_json_value
from desist.run.storage.memory import MemoryStore
from desist.run.storage.values import RunQuery, StoredRun, StoredSession

__all__ = ["InMemoryDb"]


class InMemoryDb(BaseDb):
    """Keeps everything in memory, until the process ends. Reading gives what the other databases would give.

    An agent or workflow without a `db` has a store of its own, which keeps the last 1,000 runs, as objects.

    Parameters:
        keep: how many ended runs, and how many sessions, are kept; the oldest are removed. None keeps all.
    """

    def __init__(self, keep: int | None = None) -> None:
        super().__init__(_RecordStore(keep))


class _RecordStore(MemoryStore):
    """Runs that have ended, and sessions, as JSON values. Each look gives objects of its own."""

    def save_run(self, run: StoredRun) -> None:
        """Store a run."""
        super().save_run(_fresh(run))

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run, or None if there is none."""
        found = super().load_run(run_id)
        return found if found is None else _fresh(found)

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the matching runs, the newest first."""
        return [_fresh(run) for run in super().list_runs(query)]

    def save_session(self, session: StoredSession) -> None:
        """Store a session."""
        data, metadata = to_json_value(session.session_data), to_json_value(session.metadata)
        super().save_session(replace(session, session_data=data, metadata=metadata))


def _fresh(run: StoredRun) -> StoredRun:
    """Return an ended run as a database would give it; a live one, whose output is still being made, as it is."""
    if not run.status.is_final:
        return run
    return replace(run, output=decode_output(run.kind, encode(run.output)))
