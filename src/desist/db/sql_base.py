"""`SqlDb` and `AsyncSqlDb`: the common methods of the SQLite and Postgres databases."""

from __future__ import annotations

import re

from desist.db.base import AsyncBaseDb, in_thread
from desist.db.migrations.report import SchemaReport
from desist.db.shared_instances import StoredDb
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError
from desist.run.storage.queue_store import QueuedRun

__all__ = ["AsyncSqlDb", "SqlDb", "names_after"]


class SqlDb(StoredDb[SharedTableStore]):
    """A database that processes share: each may cancel the runs of the others."""

    def end_lost_runs(self) -> list[str]:
        """End the runs of processes that have died; return their ids. Also done when the database is opened.

        Runs of workflows with `on_crash="resume"` are not ended: see `Workflow.resume_lost_runs`.
        """
        return self._table_store.end_lost()

    def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the runs that were submitted and wait for a worker, the longest wait first.

        Each has the number of live workers that have its workflow. If that is 0, the run waits for such a worker.

        Raises:
            StoreError: the database can't be read.
        """
        return self._table_store.queued_runs(limit)

    def check(self) -> SchemaReport:
        return self._table_store.report()

    def repair(self) -> list[str]:
        """End the runs that have a terminal event and no stored end, as that event says; return their ids.

        Earlier versions could leave such runs when their process was killed. Opening a database repairs them in the
        background.

        Raises:
            StoreError: the database can't be read or written.
        """
        return self._table_store.repair()

    def upgrade(self) -> SchemaReport:
        self._table_store.backend.upgrade()
        return self._table_store.report()


class AsyncSqlDb(AsyncBaseDb):
    """The async methods of `SqlDb`."""

    def __init__(self, db: SqlDb) -> None:
        super().__init__(db)

    queued_runs = in_thread(SqlDb.queued_runs)
    repair = in_thread(SqlDb.repair)
    end_lost_runs = in_thread(SqlDb.end_lost_runs)


def names_after(session_table: str | None) -> TableNames:
    """Return the names of all tables for a name of the table of sessions.

    Raises:
        ConfigurationError: the name is invalid.
    """
    if session_table is not None and not re.fullmatch(r"[A-Za-z_]\w*", session_table, re.ASCII):
        raise ConfigurationError(f"session_table={session_table!r} must be a name: letters, digits and _")
    return TableNames.after(session_table)
