"""What is done in one transaction about a run that waits for a worker: queue it, take it, give it back.

Called by the store, in its writer. The record decides, whoever drives: what is cancelled while it waits has ended then
and there, one process takes a run, and one that has an end is never taken again.
"""

from __future__ import annotations

import time

from desist.cancel.scope import Outcome
from desist.db.coordination.transactions import INTENT_TTL, merge_parts, pending_events, read_limits
from desist.db.events.rows import next_owner_index
from desist.db.process.identity import this_process
from desist.db.records.cancel_request import decode_cancel_request
from desist.db.records.rows import row_of, stored_of, with_children
from desist.db.recovery.orphans import end_orphans, end_unresponsive, is_resumable, orphan_reason
from desist.db.tables.base import QUEUED, RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import LeaseLostError, StoreError
from desist.run.events.base import RunStatus
from desist.run.options.durable_limits import DurableLimits
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = ["may_be_requeued", "queue", "release", "requeue", "requeue_lost", "take_queued"]


def queue(tables: SqlTables, run: StoredRun, text: str, options: str) -> Outcome | None:
    """Record a run that is to be driven by some worker; return None, or what it is already.

    A cancel that came first, for this id, ends it here.
    """
    tables.runs.lock(run.run_id)
    before = tables.runs.header(run.run_id)
    if before is not None:
        return Outcome.finished if before.is_final else Outcome.unknown
    row = row_of(tables, run, QUEUED, text)
    row.cancel = tables.pending.take(run.run_id, INTENT_TTL)
    tables.runs.put(row)
    if row.cancel is not None:
        end_orphans(tables, row.root_run_id)
    else:
        tables.queue.put(run.run_id, run.owner_id or "", options)
    return None


def take_queued(tables: SqlTables, run_id: str) -> tuple[RunRow, StoredRun, str] | None:
    """Take a run for this process: one that waits, or one whose process has died and that may go on.

    Return it as far as it has come, and how it was asked for; None if there is nothing to do here: it has ended,
    it ends by this, or somebody works on it.
    """
    row = tables.runs.get(run_id)
    if row is None or row.is_final or (orphan_reason(row, tables) is None and row.process != QUEUED):
        return None
    if row.process == this_process():  # its end could not be recorded, and is being tried again
        return None
    end_orphans(tables, row.root_run_id)  # what it had started; it itself, if it may not go on or has told its end
    row = tables.runs.get(run_id)
    if row is None or row.is_final or (row.process != QUEUED and not is_resumable(row)) or row.cancel is not None:
        return None
    if merge_parts(tables, row, RunStatus.pending) is None:
        return None
    row.process, row.epoch, row.updated_at = this_process(), row.epoch + 1, time.time()
    tables.runs.put(row)
    run = stored_of(row, with_children(tables, row))
    run.options = DurableLimits.of(row.options) if row.options is not None else None
    last, asked = tables.events.last(run_id), tables.queue.get(run_id)
    run.next_event = next_owner_index(last[0] if last is not None else None)
    return row, run, asked.options if asked is not None else "{}"


def release(tables: SqlTables, run_id: str) -> bool:
    """Let a run wait again that this process has taken, and that nobody heard of; return whether there was one."""
    row = tables.runs.get(run_id)
    if row is None or row.is_final or row.process != this_process():
        return False
    if row.cancel is not None:
        end_unresponsive(tables, row.root_run_id)
    else:
        _queue_again(tables, row)
    return True


def requeue(tables: SqlTables, run: StoredRun, epoch: int) -> CancelRequest | None:
    """Let another worker go on with a run of this process; or end it, if it was cancelled, and return the request.

    Raises:
        LeaseLostError: another process has the run already.
    """
    row = tables.runs.get(run.run_id)
    if row is None or row.is_final or row.epoch != epoch:
        raise LeaseLostError(f"run {run.run_id} was taken over before it could be given back")
    tables.events.add(pending_events(run, epoch))
    if row.cancel is not None:
        end_unresponsive(tables, row.root_run_id)
        return decode_cancel_request(row.cancel).request()
    _queue_again(tables, row)
    return None


def may_be_requeued(row: RunRow, owner_ids: set[str]) -> bool:
    """Whether a run whose process has died is one of a worker's workflow, and goes on without being asked for."""
    try:
        budget = read_limits(row).budget
    except StoreError:  # queueing it ends it
        budget = None
    priced = budget is not None and budget.cost is not None  # it waits for `resume_lost_runs(price=...)`
    return row.owner_id in owner_ids and row.parent_run_id is None and is_resumable(row) and not priced


def requeue_lost(tables: SqlTables, root_run_id: str) -> bool:
    """Queue a run whose process has died and that may go on; return whether it was.

    One whose terminal event is stored ends by this.
    """
    end_orphans(tables, root_run_id)  # what it had started; it itself stays, if it may go on
    row = tables.runs.get(root_run_id)
    if row is None or row.is_final or not is_resumable(row) or orphan_reason(row, tables) is None:
        return False
    return _queue_again(tables, row)


def _queue_again(tables: SqlTables, row: RunRow) -> bool:
    """Let a run wait for a worker; return False if its record can't be read: then the run has ended by this."""
    if merge_parts(tables, row, RunStatus.pending) is None:
        return False
    row.process, row.updated_at = QUEUED, time.time()
    tables.runs.put(row)
    asked = tables.queue.get(row.run_id)
    tables.queue.put(row.run_id, row.owner_id or "", asked.options if asked is not None else "{}")
    return True
