"""What databases with tables of SQL share: SQLite's and Postgres'."""

from __future__ import annotations

import re

from desist.db.base import AsyncBaseDb
from desist.db.migrations.report import SchemaReport
from desist.db.shared_instances import StoredDb
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError
from desist.run.storage.queue_store import QueuedRun
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["AsyncSqlDb", "SqlDb", "names_after"]


class SqlDb(StoredDb[SharedTableStore]):
    """A database whose runs any process may stop."""

    def end_lost_runs(self) -> list[str]:
        """Give an end to runs whose processes have died; return their ids. Also done when the database is opened.

        Not to those of a workflow with `on_crash="resume"`: see `Workflow.resume_lost_runs`.
        """
        return self._table_store.end_lost()

    def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the runs that were submitted and wait for a worker, those that have waited longest first.

        Each says how many live workers have its workflow; with none, it waits for one that has.

        Raises:
            StoreError: it can't be read.
        """
        return self._table_store.queued_runs(limit)

    def check(self) -> SchemaReport:
        """Look the database over and say what is wrong with it; nothing is changed. Takes long on a large one.

        Raises:
            StoreError: it can't be read.
        """
        return self._table_store.report()

    def repair(self) -> list[str]:
        """End the runs that have told their end and whose records have none, as they told it; return their ids.

        Versions before this one could leave such runs when their process was killed. Opening a database repairs them,
        too; here it is waited for.

        Raises:
            StoreError: it can't be read or written.
        """
        return self._table_store.repair()

    def upgrade(self) -> SchemaReport:
        """Bring tables to what this desist needs, and say how they are then. Opening has done that already."""
        self._table_store.backend.upgrade()
        return self._table_store.report()


class AsyncSqlDb(AsyncBaseDb):
    """The same, with methods that are awaited."""

    def __init__(self, db: SqlDb) -> None:
        super().__init__(db)
        self._sql = db

    async def queued_runs(self, limit: int = 1000) -> list[QueuedRun]:
        """Return the runs that wait for a worker, awaited."""
        return await to_daemon_thread(lambda: self._sql.queued_runs(limit), "desist-db-read")

    async def repair(self) -> list[str]:
        """End the runs that have told their end and whose records have none, awaited."""
        return await to_daemon_thread(self._sql.repair, "desist-db-call")

    async def end_lost_runs(self) -> list[str]:
        """Do the same, awaited."""
        return await to_daemon_thread(self._sql.end_lost_runs, "desist-db-call")


def names_after(session_table: str | None) -> TableNames:
    """Return the names of all tables.

    Raises:
        ConfigurationError: it is no name.
    """
    if session_table is not None and not re.fullmatch(r"[A-Za-z_]\w*", session_table, re.ASCII):
        raise ConfigurationError(f"session_table={session_table!r} must be a name: letters, digits and _")
    return TableNames.after(session_table)
