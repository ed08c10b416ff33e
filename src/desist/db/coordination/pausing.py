"""The transaction that stores a pause, under the rules of `transactions`.

The row says `PAUSED` and names no process: nothing is needed for the wait. What the run waits for is stored with it.
"""

from __future__ import annotations

from desist.db.events.pending import pending_events
from desist.db.process.identity import this_process
from desist.db.records.rows import row_of, update_session
from desist.db.recovery.orphans import PAUSED
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import LeaseLostError
from desist.run.storage.values import StoredRun

__all__ = ["store_pause"]


def store_pause(tables: SqlTables, run: StoredRun, epoch: int, read: RunRow | None = None) -> None:
    """Store that a run of this process waits for a human. A repeated call changes nothing.

    Parameters:
        read: the header of the run, if this transaction has read it.

    Raises:
        LeaseLostError: another process owns the run, or it was cancelled.
    """
    before = read or tables.runs.header(run.run_id)
    if before is not None and before.status == PAUSED and before.epoch == epoch:
        return
    row = row_of(tables, run, this_process(), None, epoch)
    if not tables.runs.pause(row):
        raise LeaseLostError(f"run {run.run_id} was cancelled, taken over or deleted before its pause could be stored")
    tables.requirements.add(run.requirements)
    tables.events.add(pending_events(run, epoch))
    if run.session is not None:
        update_session(tables, run.session)
