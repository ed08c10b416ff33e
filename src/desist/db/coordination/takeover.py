"""The transactions in which this process takes over a run whose process has died, under the rules of `transactions`."""

from __future__ import annotations

import time

from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.db.events.rows import next_owner_index
from desist.db.process.identity import this_process
from desist.db.records.codec import encode
from desist.db.records.rows import stored_of, with_children
from desist.db.recovery.orphans import (
    end_orphans,
    fail_run,
    is_over,
    is_resumable,
    orphan_reason,
)
from desist.db.recovery.rebuild import budget_usage, rebuild_output
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.db.tables.tables import Tables
from desist.exceptions import StoreError, UnreadableError
from desist.run.options.durable_limits import DurableLimits
from desist.run.storage.values import StoredRun

__all__ = ["leave_lost", "merge_parts", "read_limits", "take_orphans", "take_over"]


def take_orphans(tables: SqlTables, run_id: str) -> tuple[RunRow, StoredRun] | None:
    """Take over a run of a workflow whose process has died, if it may be resumed; end its children.

    Not a run that is still live here, from before another process took it over: it would write in the new epoch. It
    ends at the next poll, and can be taken after that. A run whose terminal event is stored is not taken, but ended.
    """
    known = tables.runs.header(run_id)
    if known is None or registry.get(run_id) is not None or not (is_resumable(known) or is_over(known, tables)):
        return None
    end_orphans(tables, known.root_run_id)  # its children; the run itself stays, if it may be resumed
    row = tables.runs.get(run_id)
    if row is None or row.is_final or not is_resumable(row) or orphan_reason(row, tables) is None:
        return None
    limits = merge_parts(tables, row)
    return take_over(tables, row, limits) if limits is not None else None


def take_over(tables: SqlTables, row: RunRow, limits: DurableLimits | None) -> tuple[RunRow, StoredRun]:
    """Make this process the owner of a run whose parts were merged; return the run with its finished work."""
    row.process, row.epoch, row.updated_at = this_process(), row.epoch + 1, time.time()
    tables.runs.put(row)
    run = stored_of(row, with_children(tables, row))
    last = tables.events.last(row.run_id)
    run.options, run.next_event = limits, next_owner_index(last[0] if last is not None else None)
    return row, run


def merge_parts(tables: Tables, row: RunRow, status: RunStatus | None = None) -> DurableLimits | None:
    """Put the checkpoints of a run into its row, because writing the row deletes them; return the limits of the run.

    A record that can't be decoded can't be resumed: its run is ended, the stored text stays, and None is returned.
    Raising would roll the transaction back, with the ends of all other orphans of the tree, at each attempt.

    Parameters:
        status: the new status of the run; None: unchanged.
    """
    parts = tables.parts.of_run(row.run_id)
    try:
        output, limits = rebuild_output(row, parts, dead=True), read_limits(row)
        limits.spent = budget_usage(parts) or limits.spent
    except StoreError as error:
        fail_run(tables, row.run_id, str(error))
        return None
    if status is not None:
        output.status, row.status = status, status.value
    row.output, row.options = encode(output), limits.text()
    return limits


def read_limits(row: RunRow) -> DurableLimits:
    """Return the limits of a run.

    Raises:
        UnreadableError: the text can't be decoded.
    """
    try:
        return DurableLimits.of(row.options)
    except Exception as error:  # any kind: the stored text may be anything
        raise UnreadableError(f"the stored limits of run {row.run_id} can't be read: {error}") from error


def leave_lost(tables: SqlTables, run_id: str, process: str | None) -> None:
    """Undo the takeover of a run that was not started, so that it can be taken over again.

    Parameters:
        process: the dead process.
    """
    row = tables.runs.get(run_id)
    if row is not None and not row.is_final and row.process == this_process() and registry.get(run_id) is None:
        row.process = process
        tables.runs.put(row)
