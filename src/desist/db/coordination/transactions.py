"""The transactions about a run that processes share: claim it, end it, cancel it. `takeover` has those about orphans.

Processes compete here, and only here. Called in the writer's thread, each within one transaction: no other transaction
changes what this one has read before it ends. A function may be called twice for one job, because a failed batch is
repeated; so each gives the same result when it finds its own writes. Locks are taken in one order everywhere: an id,
then rows of runs in the order of their ids, then the session.

A process writes about a run only with the epoch of its own claim. Each later claim, and each end by another process,
increases the epoch of the row, so the conditional writes of the former owner change nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.coordination.pausing import store_pause
from desist.db.events.pending import pending_events
from desist.db.process.identity import describe_process, this_process
from desist.db.records.cancel_request import CancelRequestRow, decode_cancel_request
from desist.db.records.rows import put_run, row_of, update_session
from desist.db.recovery.orphans import (
    PAUSED,
    end_orphans,
    end_paused_children,
    is_live_elsewhere,
    is_over,
    orphan_reason,
)
from desist.db.tables.base import QUEUED, RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import LeaseLostError, StoreError
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = [
    "INTENT_TTL",
    "TERMINAL_EXISTS",
    "CancelOutcome",
    "cancel_before_end",
    "claim_run",
    "finish_run",
    "notify_followers",
    "pending_events",
    "record_cancel",
    "replace_run",
    "request_cancel",
]

#: Seconds for which a pending cancel is kept.
INTENT_TTL = 60.0
#: A message about the end of a run.
TERMINAL_EXISTS = "run {} has a terminal event already: it ended before it was resumed here"


@dataclass(slots=True)
class CancelOutcome:
    """The outcome of a cancel request, and the process to notify."""

    outcome: Outcome
    run_id: str
    row: RunRow | None = None  #: the header of the run
    record_cancel: CancelRequestRow | None = None  #: its stored cancel request
    address: str | None = None  #: of its process


def claim_run(
    tables: SqlTables, run: StoredRun, text: str, held_epoch: int | None = None, already_claimed: bool = False
) -> tuple[int, CancelRequestRow | None, str | None]:
    """Store that a run starts in this process. Return its epoch and an earlier cancel request; or the reason of a
    refusal.

    Parameters:
        held_epoch: the epoch in which this process has taken over the run: then it is stored already.
        already_claimed: the run was taken and not started since. If it has ended meanwhile, for example by a cancel, it
            stays ended.
    """
    tables.runs.lock(run.run_id)
    before = tables.runs.header(run.run_id)
    open_before = before is not None and not before.is_final
    if held_epoch is not None and before is not None and open_before and before.epoch == held_epoch:
        if before.options is None and run.resumable and run.options is not None and run.options.text() is not None:
            tables.runs.set_options(run.run_id, held_epoch, run.options.text())  # it has only been queued so far
        return held_epoch, decode_cancel_request(before.cancel) if before.cancel is not None else None, None
    if already_claimed:
        return -1, None, f"run {run.run_id} has ended, or was taken over, since this process claimed it"
    if before is not None and open_before and is_live_elsewhere(before, tables):
        return -1, None, f"{describe_process(before.process)} owns run {run.run_id}"
    if open_before and tables.events.terminal(run.run_id) is not None:
        open_before = False  # that run is over: its cancel is not for this one
    asked = tables.pending.take(run.run_id, INTENT_TTL)
    if before is not None and open_before and before.cancel is not None:
        asked = before.cancel
    if before is not None:  # events of an earlier run with this id
        tables.events.delete(run.run_id)
    row = row_of(tables, run, this_process(), text, before.epoch + 1 if before is not None else 1)
    row.cancel = asked
    tables.runs.put(row)
    return row.epoch, decode_cancel_request(asked) if asked is not None else None, None


def finish_run(tables: SqlTables, run: StoredRun, epoch: int, read: RunRow | None = None) -> list[str]:
    """Store the end or the pause of a run of this process; return the addresses of the processes to notify.

    Parameters:
        read: the header of the run, if this transaction has read it.

    Raises:
        LeaseLostError: another process owns the run.
    """
    if run.status is RunStatus.paused:
        store_pause(tables, run, epoch, read)
        return []
    before = read or tables.runs.header(run.run_id)
    if before is not None and before.cancel is not None and run.status is not RunStatus.cancelled:
        raise LeaseLostError(f"run {run.run_id} was cancelled by another process before its end could be written")
    if run.has_paused_children:
        end_paused_children(tables, run.root_run_id)
    row = row_of(tables, run, this_process(), None, epoch)
    if not tables.runs.end(row):
        if before is None:  # deleted while it was live: stored again
            tables.runs.put(row)
        elif before.status != row.status or (before.epoch != epoch and run.status is not RunStatus.cancelled):
            raise LeaseLostError(f"run {run.run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
        else:
            return []
    if not tables.events.add_last(pending_events(run, epoch)):
        raise LeaseLostError(TERMINAL_EXISTS.format(run.run_id))
    if run.session is not None:
        update_session(tables, run.session)
    listeners = (
        decode_cancel_request(before.cancel).listeners if before is not None and before.cancel is not None else []
    )
    for listener in listeners:
        tables.tx.notify(listener)
    return [*listeners, *notify_followers(tables, [run.run_id])]


def notify_followers(tables: SqlTables, run_ids: list[str]) -> list[str]:
    """Notify the processes that follow runs that have ended; return their addresses, for after the commit."""
    followers = tables.followers.end(run_ids)
    for address in followers:
        tables.tx.notify(address)
    return followers


def cancel_before_end(before: RunRow | None, run_id: str, epoch: int) -> CancelRequest | None:
    """Return the cancel request that was stored before the end of a run of this process; None: the run may end.

    This is the one decision between completion and a cancel from another process. The order matters: read the row,
    which locks it; ask this; verify that the lock still holds (`assert_locked`), because the process may have been
    frozen; only then decide in memory, which can't be undone; then write.

    Raises:
        LeaseLostError: another process owns the run.
    """
    if before is not None and before.cancel is not None:
        return decode_cancel_request(before.cancel).request()
    if before is not None and (before.epoch != epoch or before.is_final):
        raise LeaseLostError(f"run {run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
    return None


def request_cancel(tables: SqlTables, run_id: str, request: CancelRequest, listener: str) -> CancelOutcome:
    """Store a cancel request of this process. If no process can apply it, end the run in this transaction."""
    tables.runs.lock(run_id)
    named = tables.runs.header(run_id)
    if named is None:
        tables.pending.put(run_id, CancelRequestRow.of(request).text_of())
        return CancelOutcome(Outcome.unknown, run_id)
    row = named if request.reach == "run" else tables.runs.header(named.root_run_id) or named
    if not row.is_final and is_over(row, tables):
        end_orphans(tables, row.root_run_id)
        row = tables.runs.header(row.run_id) or row
    if row.is_final:
        outcome = Outcome.already_cancelled if row.status == "CANCELLED" else Outcome.finished
        return CancelOutcome(outcome, row.run_id, row)
    wanted = CancelRequestRow.of(request, listener)
    if row.cancel is not None:
        outcome, wanted = Outcome.already_cancelling, decode_cancel_request(row.cancel).repeated(request, listener)
    else:
        outcome = Outcome.accepted
    if not tables.runs.set_cancel(row.run_id, row.epoch, wanted.text_of()):
        raise StoreError(f"run {row.run_id} changed while it was being cancelled")
    if row.status == PAUSED or row.process == QUEUED or orphan_reason(row, tables) is not None:
        end_orphans(tables, row.root_run_id)
    owner = tables.owners.get(row.process or "")
    if owner is not None:
        tables.tx.notify(owner[0])
    return CancelOutcome(outcome, row.run_id, row, wanted, owner[0] if owner is not None else None)


def record_cancel(tables: SqlTables, run_id: str, epoch: int, request: CancelRequest) -> None:
    """Store that a run of this process is being cancelled, and that its process applies the cancel."""
    row = tables.runs.header(run_id)
    if row is None or row.is_final or row.epoch != epoch:
        return
    known = decode_cancel_request(row.cancel) if row.cancel is not None else CancelRequestRow.of(request)
    if known.delivered_at is None:
        tables.runs.set_cancel(run_id, epoch, replace(known, delivered_at=time.time()).text_of())


def replace_run(tables: SqlTables, run: StoredRun, text: str | None) -> None:
    """Store a run that this process has not claimed: one that never started, or one that a program stores itself.

    Raises:
        LeaseLostError: another process owns a run with this id.
    """
    before = tables.runs.header(run.run_id)
    if before is not None and not before.is_final and is_live_elsewhere(before, tables):
        raise LeaseLostError(f"{describe_process(before.process)} owns run {run.run_id}")
    tried = run.event_buffer.written if run.event_buffer is not None and run.status.is_final else None
    if tried and tables.events.last(run.run_id) == (tried[-1].last_event, True):
        return  # stored by an earlier attempt, with all events
    if run.event_buffer is not None and run.status.is_final and _was_claimed_here(before, run):  # its end was refused
        raise LeaseLostError(f"run {run.run_id} was cancelled or taken over before its end could be written")
    epoch = before.epoch if before is not None else 0
    put_run(tables, run, run.process or this_process(), text, epoch)
    if run.event_buffer is not None or not run.status.is_final:  # events of an earlier run with this id
        tables.events.delete(run.run_id)
    if run.event_buffer is not None and run.status.is_final:
        tables.events.add_last(pending_events(run, epoch))


def _was_claimed_here(row: RunRow | None, run: StoredRun) -> bool:
    """Return whether the row of a live run is that of this very run, started in this process."""
    if row is None or row.is_final or row.status == PAUSED:
        return False
    return row.process == this_process() and row.created_at == run.created_at
