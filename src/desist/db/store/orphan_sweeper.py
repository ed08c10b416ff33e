"""Ending the runs of processes that have died: when a database is opened, when asked, and as a repair.

Each tree ends in a transaction of its own: one that can't be ended keeps no other from its end. What ended already is
read again within the transaction, and left alone: sweeping twice, or in two processes, does nothing more.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from desist.db.backends.base import SharedBackend
from desist.db.migrations.report import SchemaReport
from desist.db.process.lease_observer import leases
from desist.db.recovery.orphans import end_orphans, find_orphans, is_over, is_resumable
from desist.db.recovery.run_jobs import begin_one_by_one, one_by_one
from desist.db.tables.sql import SqlTables
from desist.db.writer import Writer
from desist.exceptions import StoreError

__all__ = ["OrphanSweeper"]

log = logging.getLogger("desist.db")


class OrphanSweeper:
    """The part of `SharedTableStore` that ends orphans."""

    def __init__(self, backend: SharedBackend, writer: Writer) -> None:
        self._backend, self._writer = backend, writer

    def end_lost(self) -> list[str]:
        """End the runs whose processes have died, but for those that may be resumed; return their ids.

        Waits some seconds if a lease looks over that this process hasn't seen before: a clock may have stepped.
        """
        with self._backend.reading() as tables:
            found = _orphans(tables)
        if leases.wait_decided():
            with self._backend.reading() as tables:
                found = _orphans(tables)
        ended = one_by_one(self._writer, dict.fromkeys(found.values()), _end, "ended")
        failed = {root_run_id for root_run_id, done in ended if done is None}
        return [run_id for run_id, root_run_id in found.items() if root_run_id not in failed]

    def end_lost_soon(self) -> None:
        """Do the same without waiting for the writes."""
        try:
            with self._backend.reading() as tables:
                found = _orphans(tables)
        except StoreError as error:  # the next caller who needs the database gets the error
            log.debug("%s", error)
            return
        begin_one_by_one(self._writer, dict.fromkeys(found.values()), _end, "ended")

    def report(self) -> SchemaReport:
        """Check the tables, and whether there are runs that have a terminal event and no end."""
        report = self._backend.report()
        try:
            with self._backend.reading() as tables:
                found = [row.run_id for row in tables.runs.unsettled() if is_over(row, tables)]
        except StoreError as error:  # a table is missing
            log.debug("%s", error)
            found = []
        problems = [
            f"run {run_id} has a terminal event and no end: `desist db check --repair` ends it" for run_id in found
        ]
        return replace(report, problems=[*report.problems, *problems])

    def repair(self) -> list[str]:
        """End the runs that have a terminal event and no end, as that event says; return their ids."""
        with self._backend.reading() as tables:
            found = {row.run_id: row.root_run_id for row in tables.runs.unsettled() if is_over(row, tables)}
        one_by_one(self._writer, dict.fromkeys(found.values()), _end, "repaired")
        return list(found)


def _orphans(tables: SqlTables) -> dict[str, str]:
    """Return the runs that no process will ever end, each with the root of its tree."""
    ended = [row for row in find_orphans(tables) if not is_resumable(row)]
    ended += [row for row in tables.runs.unsettled() if is_over(row, tables)]
    return {row.run_id: row.root_run_id for row in ended}


def _end(tables: SqlTables, root_run_id: str) -> bool:
    end_orphans(tables, root_run_id)
    return True
