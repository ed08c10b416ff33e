"""The transactions about a run that waits for a worker: queue it, take it, requeue it.

Called in the writer's thread, under the same rules as `transactions`. The row decides: a run that is cancelled while it
waits ends in that transaction, one process takes a run, and an ended run is never taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from desist.cancel.scope import Outcome
from desist.db.coordination.takeover import merge_parts, read_limits, take_over
from desist.db.coordination.transactions import INTENT_TTL, pending_events
from desist.db.process.identity import this_process
from desist.db.records.cancel_request import decode_cancel_request
from desist.db.records.rows import row_of
from desist.db.recovery.orphans import end_orphans, end_unresponsive, is_resumable, orphan_reason
from desist.db.tables.base import QUEUED, QueuedRow, RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import LeaseLostError, StoreError
from desist.run.events.base import RunStatus
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = ["NewRun", "may_be_requeued", "queue", "release", "requeue", "requeue_lost", "take_queued"]


@dataclass(slots=True)
class NewRun:
    """A run to be queued."""

    run: StoredRun
    text: str  #: its encoded output
    row: QueuedRow  #: its state is chosen within the transaction
    delay: float | None = None  #: seconds until it may be claimed
    known_id: bool = False  #: others may know its id: there may be a run with it, or a pending cancel
    taken_id: str | None = None  #: the run that waits with its dedup key; then this one is not queued
    refused: Outcome | None = None  #: why it is not queued: a run with its id exists


def queue(tables: SqlTables, new: Sequence[NewRun]) -> list[str]:
    """Queue runs, all or none; return the addresses of the workers to notify. `refused` and `taken_id` say what became
    of each.

    A pending cancel of an id ends its run.
    """
    new = sorted(new, key=_lock_order)
    for one in new:
        one.refused = _refusal(tables, one) if one.known_id else None
    if any(one.refused is not None for one in new):
        return []
    plain: list[tuple[RunRow, QueuedRow]] = []
    now = tables.now()
    for number, one in enumerate(new):
        one.row.at = now + number * 1e-6  # in the order of submission
        one.row.due_at = now + one.delay if one.delay is not None else one.row.due_at
        one.taken_id = _waits_instead(tables, one.row)
        if one.taken_id is not None:
            continue
        row = row_of(tables, one.run, QUEUED, one.text)
        row.cancel = tables.pending.take(one.run.run_id, INTENT_TTL) if one.known_id else None
        if row.cancel is not None:
            tables.runs.put(row)
            end_orphans(tables, row.root_run_id)
        elif one.row.concurrency_key is not None or one.row.dedup_key is not None:
            per_key = tables.limits.per_key(one.row.owner_id)
            _add(tables, [(row, one.row)], per_key)  # at once: the next one with this key must see it
        else:
            plain.append((row, one.row))
    _add(tables, plain, 1)
    return tables.workers.notify_hungry(sorted({one.row.owner_id for one in new}))


def _lock_order(new: NewRun) -> tuple[bool, str, str]:
    """The order of names that are locked, the same in all transactions. Those without names keep their order."""
    return new.known_id, new.row.dedup_key or "", new.row.concurrency_key or ""


def _refusal(tables: SqlTables, new: NewRun) -> Outcome | None:
    tables.runs.lock(new.run.run_id)
    before = tables.runs.header(new.run.run_id)
    if before is None:
        return None
    return Outcome.finished if before.is_final else Outcome.unknown


def _waits_instead(tables: SqlTables, row: QueuedRow) -> str | None:
    """Return the run that waits already with the dedup key of a new one."""
    if row.dedup_key is None:
        return None
    tables.queue.lock_dedup(row.owner_id, row.dedup_key)
    return tables.queue.waiting_with(row.owner_id, row.dedup_key)


def _add(tables: SqlTables, rows: Sequence[tuple[RunRow, QueuedRow]], per_key: int) -> None:
    for _, queued in rows:
        tables.queue.admit(queued, per_key)
    tables.runs.put_new([row for row, _ in rows])
    tables.queue.add([queued for _, queued in rows])


def take_queued(tables: SqlTables, run_id: str) -> tuple[RunRow, StoredRun, QueuedRow] | None:
    """Take a run for this process: a queued run, or a resumable run whose process has died.

    Return its row, the run with its finished work, and its row in the queue; None if there is nothing
    to do here: the run has ended, is ended by this, or another process owns it.
    """
    row = tables.runs.get(run_id)
    if row is None or row.is_final or (orphan_reason(row, tables) is None and row.process != QUEUED):
        return None
    if row.process == this_process():  # its end could not be stored, and is being retried
        return None
    end_orphans(tables, row.root_run_id)  # its children; the run itself, if it may not be resumed
    row = tables.runs.get(run_id)
    if row is None or row.is_final or (row.process != QUEUED and not is_resumable(row)) or row.cancel is not None:
        return None
    limits = merge_parts(tables, row, RunStatus.pending)
    if limits is None:
        return None
    row, run = take_over(tables, row, limits if row.options is not None else None)
    tables.queue.mark_claimed([run_id])
    return row, run, tables.queue.get(run_id) or QueuedRow(run_id, row.owner_id or "", "{}", row.created_at)


def release(tables: SqlTables, run_id: str) -> bool:
    """Requeue a run that this process has taken and not started; return whether there was such a run."""
    row = tables.runs.get(run_id)
    if row is None or row.is_final or row.process != this_process():
        return False
    if row.cancel is not None:
        end_unresponsive(tables, row.root_run_id)
    else:
        _queue_again(tables, row)
    return True


def requeue(tables: SqlTables, run: StoredRun, epoch: int) -> CancelRequest | None:
    """Requeue a live run of this process; or, if it was cancelled, end it and return the cancel request.

    Raises:
        LeaseLostError: another process owns the run.
    """
    row = tables.runs.get(run.run_id)
    if row is None or row.is_final or row.epoch != epoch:
        raise LeaseLostError(f"run {run.run_id} was taken over before it could be requeued")
    tables.events.add(pending_events(run, epoch))
    if row.cancel is not None:
        end_unresponsive(tables, row.root_run_id)
        return decode_cancel_request(row.cancel).request()
    _queue_again(tables, row)
    return None


def may_be_requeued(row: RunRow, owner_ids: set[str]) -> bool:
    """Return whether an orphan is a run of a worker's workflow that may be resumed without a caller."""
    try:
        budget = read_limits(row).budget
    except StoreError:  # `requeue_lost` ends the run
        budget = None
    priced = budget is not None and budget.cost is not None  # `resume_lost_runs(price=...)` resumes it
    return row.owner_id in owner_ids and row.parent_run_id is None and is_resumable(row) and not priced


def requeue_lost(tables: SqlTables, root_run_id: str) -> bool:
    """Queue a resumable run whose process has died; return whether it was queued.

    A run whose terminal event is stored is ended.
    """
    end_orphans(tables, root_run_id)  # its children; the run itself stays, if it may be resumed
    row = tables.runs.get(root_run_id)
    if row is None or row.is_final or not is_resumable(row) or orphan_reason(row, tables) is None:
        return False
    return _queue_again(tables, row)


def _queue_again(tables: SqlTables, row: RunRow) -> bool:
    """Queue a run; return False if its record can't be decoded: then the run is ended."""
    if merge_parts(tables, row, RunStatus.pending) is None:
        return False
    row.process, row.updated_at = QUEUED, time.time()
    tables.runs.put(row)
    tables.queue.requeue(row.run_id, row.owner_id or "")
    tables.workers.notify_hungry([row.owner_id or ""])
    return True
