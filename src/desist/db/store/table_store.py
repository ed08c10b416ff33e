"""A store on tables that one process uses: a facade that meets `RunStore` by delegation.

`recorder` writes runs, `runs` reads them, `sessions` has the sessions. All writes go through one writer.
"""

from __future__ import annotations

from desist.db.backends.base import StorageBackend
from desist.db.process.live_runs import LiveRuns
from desist.db.store.run_recorder import RunRecorder
from desist.db.store.run_table import RunTable
from desist.db.store.session_table import SessionTable
from desist.db.writer import Writer

__all__ = ["CLOSE_TIMEOUT", "TableStore"]

#: The minimum of seconds that closing waits for pending writes.
CLOSE_TIMEOUT = 2.0


class TableStore:
    """Runs and sessions in tables.

    Parameters:
        backend: the storage.
        write_timeout: seconds after which a write that is not done fails for the caller. The write is still tried.
    """

    blocking = True
    shared = False

    def __init__(self, backend: StorageBackend, write_timeout: float) -> None:
        self.backend, self.write_timeout = backend, write_timeout
        self.writer = Writer(backend, write_timeout)
        self.recorder = recorder = RunRecorder(self.writer, backend.name)
        self.unwritten = unwritten = recorder.unwritten
        self.runs = runs = RunTable(backend, self.writer, LiveRuns(self), unwritten)
        self.sessions = sessions = SessionTable(backend, self.writer, unwritten)

        self.save_run, self.add_part = recorder.save_run, recorder.add_part
        self.load_run, self.delete_run, self.unwritten_end = runs.load_run, runs.delete_run, runs.unwritten_end
        self.session_runs, self.list_runs = runs.session_runs, runs.list_runs
        self.reserve_run, self.end_reservation = runs.reserve_run, runs.end_reservation
        self.load_session, self.save_session = sessions.load_session, sessions.save_session
        self.update_session, self.delete_session = sessions.update_session, sessions.delete_session
        self.list_sessions, self.claim_session = sessions.list_sessions, sessions.claim_session

    def flush(self) -> bool:
        """Wait until all pending writes are done; return whether they are."""
        return self.writer.flush()

    def close(self) -> None:
        """Do the pending writes and close everything. The store raises `StoreError` afterwards."""
        self.writer.close(max(self.write_timeout, CLOSE_TIMEOUT))
        self.unwritten.forget()
        self.backend.close()
