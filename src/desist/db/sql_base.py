"""`SqlDb` and `AsyncSqlDb`: the common methods of the SQLite and Postgres databases."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import msgspec

from desist.db.base import AsyncBaseDb, in_thread
from desist.db.migrations.report import SchemaReport
from desist.db.shared_instances import StoredDb
from desist.db.store.shared_table_store import SharedTableStore
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError
from desist.run.records.ids import require_id
from desist.run.storage.queue_store import QueuedRun, QueueStatistics, Schedule, WorkerInfo

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

    # -- the fleet

    def queue_statistics(self) -> list[QueueStatistics]:
        """Return the submitted runs of each workflow, by what they wait for, and the limits of the workflow.

        Raises:
            StoreError: the database can't be read.
        """
        return self._table_store.workers.queue_statistics()

    def workers(self) -> list[WorkerInfo]:
        """Return the workers of this database: where they are, what they execute, since when.

        Raises:
            StoreError: the database can't be read.
        """
        return self._table_store.workers.workers()

    def set_limit(self, workflow_id: str, runs: int | None, *, per_key: int | None = None) -> None:
        """Limit the live runs of a workflow on all workers. Workers keep to it from their next claim on.

        Parameters:
            runs: the maximum of live runs; None: no limit. Runs beyond it are not cancelled.
            per_key: the maximum of live runs with one `concurrency_key`; None: 1.

        Raises:
            ConfigurationError: a value is invalid.
            StoreError: the limit is not confirmed as stored.
        """
        for name, value in (("runs", runs), ("per_key", per_key)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigurationError(f"{name}={value!r:.80} of set_limit() must be 1 or more, or None")
        change = partial(replace, runs=runs, per_key=per_key)
        self._table_store.workers.change_limits(require_id(workflow_id, "workflow_id"), change)

    def pause_workflow(self, workflow_id: str) -> None:
        """Let workers claim no more runs of a workflow. Live runs go on; submitted ones wait.

        Raises:
            StoreError: this is not confirmed as stored.
        """
        self._table_store.workers.change_limits(require_id(workflow_id, "workflow_id"), partial(replace, paused=1))

    def resume_workflow(self, workflow_id: str) -> None:
        """Let workers claim runs of a workflow again.

        Raises:
            StoreError: this is not confirmed as stored.
        """
        self._table_store.workers.change_limits(require_id(workflow_id, "workflow_id"), partial(replace, paused=0))

    def schedules(self) -> list[Schedule]:
        """Return the schedules of `Workflow.schedule`.

        Raises:
            StoreError: the database can't be read.
        """
        return [
            Schedule(
                row.name, row.owner_id, row.cron, row.timezone, msgspec.json.decode(row.request)["input"], row.next_at
            )
            for row in self._table_store.workers.schedules()
        ]

    def delete_schedule(self, name: str) -> bool:
        """Delete a schedule; return whether it existed. Runs that it has submitted are not cancelled.

        Raises:
            StoreError: this is not confirmed as stored.
        """
        return self._table_store.workers.delete_schedule(name)

    # -- the schema

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
    queue_statistics = in_thread(SqlDb.queue_statistics)
    workers = in_thread(SqlDb.workers)
    set_limit = in_thread(SqlDb.set_limit)
    pause_workflow = in_thread(SqlDb.pause_workflow)
    resume_workflow = in_thread(SqlDb.resume_workflow)
    schedules = in_thread(SqlDb.schedules)
    delete_schedule = in_thread(SqlDb.delete_schedule)
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
