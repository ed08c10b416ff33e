"""What is done in one transaction about a run that several processes may stop: claim it, end it, cancel it.

Called by the shared store, in its writer. These are the places where processes compete; what a transaction has read,
no other one changes before it is through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.events.rows import next_owner_index, rows_of
from desist.db.process.identity import describe_process, this_process
from desist.db.records.cancel_request import CancelRequestRow, decode_cancel_request
from desist.db.records.codec import encode
from desist.db.records.rows import put_run, row_of, stored_of, update_session, with_children
from desist.db.recovery.orphans import (
    PAUSED,
    end_orphans,
    fail_run,
    is_live_elsewhere,
    is_over,
    is_resumable,
    orphan_reason,
)
from desist.db.recovery.rebuild import budget_usage, rebuild_output
from desist.db.tables.base import QUEUED, EventRow, RunRow, Tables
from desist.db.tables.sql import SqlTables
from desist.exceptions import LeaseLostError, StoreError, UnreadableError
from desist.run.options.durable_limits import DurableLimits
from desist.run.storage.values import CancelRequest, StoredRun

__all__ = [
    "INTENT_TTL",
    "CancelOutcome",
    "claim_run",
    "finish_run",
    "finish_unless_cancelled",
    "leave_lost",
    "merge_parts",
    "pending_events",
    "read_limits",
    "record_cancel",
    "replace_run",
    "request_cancel",
    "take_orphans",
]

#: Seconds for which a cancel of an unknown run is kept.
INTENT_TTL = 60.0


@dataclass(slots=True)
class CancelOutcome:
    """What became of a request: the run that it is about, and who must be told."""

    outcome: Outcome
    run_id: str
    row: RunRow | None = None  #: of that run, without its output
    record_cancel: CancelRequestRow | None = None  #: its cancel
    address: str | None = None  #: of its process


def claim_run(
    tables: SqlTables, run: StoredRun, text: str, held_epoch: int | None = None, already_claimed: bool = False
) -> tuple[int, CancelRequestRow | None, str | None]:
    """Record that a run starts in this process. Return its epoch and a cancel that came before; or why it may not.

    Parameters:
        held: the epoch in which this process has taken it from one that died: then it is recorded already.
        taken: it was taken, and not begun since: if it has ended meanwhile, cancelled from here say, it stays so.
    """
    tables.runs.lock(run.run_id)
    before = tables.runs.header(run.run_id)
    open_before = before is not None and not before.is_final
    if held_epoch is not None and before is not None and open_before and before.epoch == held_epoch:
        if before.options is None and run.resumable and run.options is not None and run.options.text() is not None:
            tables.runs.set_options(run.run_id, held_epoch, run.options.text())  # it had only waited before
        return held_epoch, decode_cancel_request(before.cancel) if before.cancel is not None else None, None
    if already_claimed:
        return -1, None, f"the run {run.run_id} has ended, or was taken, since this process took it"
    if before is not None and open_before and is_live_elsewhere(before, tables):
        return -1, None, f"{describe_process(before.process)} works on the run {run.run_id}"
    if open_before and tables.events.terminal(run.run_id) is not None:
        open_before = False  # that run is over: its cancel is not for this one
    asked = tables.pending.take(run.run_id, INTENT_TTL)
    if before is not None and open_before and before.cancel is not None:
        asked = before.cancel
    if before is not None:  # what an earlier run of this id has told
        tables.events.delete(run.run_id)
    row = row_of(tables, run, this_process(), text, before.epoch + 1 if before is not None else 1)
    row.cancel = asked
    tables.runs.put(row)
    return row.epoch, decode_cancel_request(asked) if asked is not None else None, None


def finish_run(tables: SqlTables, run: StoredRun, epoch: int, read: RunRow | None = None) -> list[str]:
    """Record the end of a run of this process; return the addresses of those who wait for it.

    Parameters:
        read: its record, if that was read in this transaction.

    Raises:
        LeaseLostError: another process has the run now.
    """
    before = read or tables.runs.header(run.run_id)
    if before is not None and before.cancel is not None and run.status is not RunStatus.cancelled:
        raise LeaseLostError(f"run {run.run_id} was cancelled by another process before its end could be written")
    row = row_of(tables, run, this_process(), None, epoch)
    if not tables.runs.end(row):
        if before is None:  # deleted meanwhile: what a program deletes while it runs is there again when it ends
            tables.runs.put(row)
        elif before.status != row.status or (before.epoch != epoch and run.status is not RunStatus.cancelled):
            raise LeaseLostError(f"run {run.run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
        else:
            return []
    if not tables.events.add_last(pending_events(run, epoch)):
        raise LeaseLostError(f"run {run.run_id} has a terminal event already: it had ended before it went on here")
    if run.session is not None:
        update_session(tables, run.session)
    listeners = (
        decode_cancel_request(before.cancel).listeners if before is not None and before.cancel is not None else []
    )
    for listener in listeners:
        tables.tx.notify(listener)
    return listeners


def pending_events(run: StoredRun, epoch: int) -> list[EventRow]:
    """Return what a run has told and that isn't stored yet, its last event at the end. Trying again, it is the same."""
    if run.recorder is None:
        return []
    if run.recorder.written is None:
        run.recorder.written = rows_of(run.run_id, run.recorder.take_all(), epoch)
    rows: list[EventRow] = run.recorder.written
    return rows


def finish_unless_cancelled(
    tables: SqlTables, run_id: str, epoch: int, choose: Callable[[], StoredRun | None]
) -> CancelRequest | None:
    """Record the end of a run unless it was cancelled; then return the request. THE decision between processes.

    Raises:
        LeaseLostError: another process has the run now.
    """
    before = tables.runs.header(run_id)
    if before is not None and before.cancel is not None:
        return decode_cancel_request(before.cancel).request()
    if before is not None and (before.epoch != epoch or before.is_final):
        raise LeaseLostError(f"run {run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
    tables.tx.assert_locked()
    run = choose()
    if run is not None:
        finish_run(tables, run, epoch, before)
    return None


def request_cancel(tables: SqlTables, run_id: str, request: CancelRequest, listener: str) -> CancelOutcome:
    """Record a cancel that this process asks for. If nobody can carry it out, the run is ended here and now."""
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
    """Record that a run of this process is being cancelled, and that its process knows."""
    row = tables.runs.header(run_id)
    if row is None or row.is_final or row.epoch != epoch:
        return
    known = decode_cancel_request(row.cancel) if row.cancel is not None else CancelRequestRow.of(request)
    if known.delivered_at is None:
        tables.runs.set_cancel(run_id, epoch, replace(known, delivered_at=time.time()).text_of())


def replace_run(tables: SqlTables, run: StoredRun, text: str | None) -> None:
    """Record a run that this process hasn't claimed: one that never began, or what a program writes itself.

    Raises:
        LeaseLostError: another process works on a run with this id.
    """
    before = tables.runs.header(run.run_id)
    if before is not None and not before.is_final and is_live_elsewhere(before, tables):
        raise LeaseLostError(f"{describe_process(before.process)} works on the run {run.run_id}")
    tried = run.recorder.written if run.recorder is not None and run.status.is_final else None
    if tried and tables.events.last(run.run_id) == (tried[-1].last_event, True):
        return  # it is written already, with all that the run told before; an end that is tried again may come twice
    if (
        run.recorder is not None and run.status.is_final and _was_claimed_here(before, run)
    ):  # its end was refused before
        raise LeaseLostError(f"run {run.run_id} was cancelled or taken over before its end could be written")
    epoch = before.epoch if before is not None else 0
    put_run(tables, run, run.process or this_process(), text, epoch)
    if run.recorder is not None or not run.status.is_final:  # what an earlier run of this id has told
        tables.events.delete(run.run_id)
    if run.recorder is not None and run.status.is_final:
        tables.events.add_last(pending_events(run, epoch))


def _was_claimed_here(row: RunRow | None, run: StoredRun) -> bool:
    """Whether a record that has no end is that of this very run, begun in this process."""
    if row is None or row.is_final or row.status == PAUSED:
        return False
    return row.process == this_process() and row.created_at == run.created_at


def take_orphans(tables: SqlTables, run_id: str) -> tuple[RunRow, StoredRun] | None:
    """Take a run of a workflow whose process has died, if it may go on; end what hung below it.

    Not one that still lives here, from before another process took it: it would write in the new epoch. It ends at the
    next look, and is taken after that. Nor one whose terminal event is stored: that one ends by this.
    """
    known = tables.runs.header(run_id)
    if known is None or registry.get(run_id) is not None or not (is_resumable(known) or is_over(known, tables)):
        return None
    end_orphans(tables, known.root_run_id)  # what it had started; it itself stays, if it may go on
    row = tables.runs.get(run_id)
    if row is None or row.is_final or not is_resumable(row) or orphan_reason(row, tables) is None:
        return None
    options = merge_parts(tables, row)
    if options is None:
        return None
    row.process, row.epoch, row.updated_at = this_process(), row.epoch + 1, time.time()
    tables.runs.put(row)
    run = stored_of(row, with_children(tables, row))
    last = tables.events.last(row.run_id)
    run.options = options
    run.next_event = next_owner_index(last[0] if last is not None else None)
    return row, run


def merge_parts(tables: Tables, row: RunRow, status: RunStatus | None = None) -> DurableLimits | None:
    """Put into a record what has finished in its run, because writing the record drops the parts; return the limits.

    A record that can't be read can't go on: its run is ended, the stored text stays, and None is returned. Raising
    would roll the transaction back, with the ends of all other orphans of the tree, at each attempt.

    Parameters:
        status: of the run from now on; None: unchanged.
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
        UnreadableError: the text can't be read.
    """
    try:
        return DurableLimits.of(row.options)
    except Exception as error:  # of whatever kind: what is stored may be anything
        raise UnreadableError(f"the stored limits of run {row.run_id} can't be read: {error}") from error


def leave_lost(tables: SqlTables, run_id: str, process: str | None) -> None:
    """Undo the taking of a run that nobody heard of, so that it can be taken again.

    Parameters:
        process: that which has died.
    """
    row = tables.runs.get(run_id)
    if row is not None and not row.is_final and row.process == this_process() and registry.get(run_id) is None:
        row.process = process
        tables.runs.put(row)
