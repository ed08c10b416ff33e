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
from desist.db.events.rows import next_after, rows_of
from desist.db.process.identity import this_process, words
from desist.db.records.cancel_request import Note, read_note
from desist.db.records.codec import encode
from desist.db.records.rows import put_run, row_of, stored_of, update_session, with_children
from desist.db.recovery.orphans import PAUSED, is_live_elsewhere, is_over, mark, may_go_on, reason_of
from desist.db.recovery.rebuild import so_far, spent_by
from desist.db.tables.base import QUEUED, EventRow, RunRow, SharedTables
from desist.exceptions import LeaseLostError, StoreError
from desist.run.options.durable_limits import KeptOptions
from desist.run.storage.values import StoredRequest, StoredRun

__all__ = [
    "INTENT_TTL",
    "Answer",
    "ask",
    "claim",
    "decide",
    "end",
    "last_told",
    "leave_lost",
    "note",
    "replace_run",
    "take_lost",
]

#: Seconds for which a cancel of an unknown run is kept.
INTENT_TTL = 60.0


@dataclass(slots=True)
class Answer:
    """What became of a request: the run that it is about, and who must be told."""

    outcome: Outcome
    run_id: str
    row: RunRow | None = None  #: of that run, without its output
    note: Note | None = None  #: its cancel
    address: str | None = None  #: of its process


def control(tables: SharedTables, run_id: str) -> RunRow | None:
    """Return the record of a run without its output."""
    found = tables.get_runs([run_id])
    return found[0] if found else None


def claim(
    tables: SharedTables, run: StoredRun, text: str, held: int | None = None, taken: bool = False
) -> tuple[int, Note | None, str | None]:
    """Record that a run starts in this process. Return its epoch and a cancel that came before; or why it may not.

    Parameters:
        held: the epoch in which this process has taken it from one that died: then it is recorded already.
        taken: it was taken, and not begun since: if it has ended meanwhile, cancelled from here say, it stays so.
    """
    tables.lock_run(run.run_id)
    before = control(tables, run.run_id)
    open_before = before is not None and not before.is_final
    if held is not None and before is not None and open_before and before.epoch == held:
        if before.options is None and run.resumable and run.options is not None and run.options.text() is not None:
            tables.set_options(run.run_id, held, run.options.text())  # it had only waited before
        return held, read_note(before.cancel) if before.cancel is not None else None, None
    if taken:
        return -1, None, f"the run {run.run_id} has ended, or was taken, since this process took it"
    if before is not None and open_before and is_live_elsewhere(before, tables):
        return -1, None, f"{words(before.process)} works on the run {run.run_id}"
    if open_before and tables.terminal_event(run.run_id) is not None:  # that one is over: its cancel isn't for this one
        open_before = False
    asked = tables.take_intent(run.run_id, INTENT_TTL)
    if before is not None and open_before and before.cancel is not None:
        asked = before.cancel
    if before is not None:  # what an earlier run of this id has told
        tables.delete_events(run.run_id)
    row = row_of(tables, run, this_process(), text, before.epoch + 1 if before is not None else 1)
    row.cancel = asked
    tables.put_run(row)
    return row.epoch, read_note(asked) if asked is not None else None, None


def end(tables: SharedTables, run: StoredRun, epoch: int, read: RunRow | None = None) -> list[str]:
    """Record the end of a run of this process; return the addresses of those who wait for it.

    Parameters:
        read: its record, if that was read in this transaction.

    Raises:
        LeaseLostError: another process has the run now.
    """
    before = read or control(tables, run.run_id)
    if before is not None and before.cancel is not None and run.status is not RunStatus.cancelled:
        raise LeaseLostError(f"run {run.run_id} was cancelled by another process before its end could be written")
    row = row_of(tables, run, this_process(), None, epoch)
    if not tables.end_run(row):
        if before is None:  # deleted meanwhile: what a program deletes while it runs is there again when it ends
            tables.put_run(row)
        elif before.status != row.status or (before.epoch != epoch and run.status is not RunStatus.cancelled):
            raise LeaseLostError(f"run {run.run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
        else:
            return []
    if not tables.put_last_events(last_told(run, epoch)):
        raise LeaseLostError(f"run {run.run_id} has a terminal event already: it had ended before it went on here")
    if run.session is not None:
        update_session(tables, run.session)
    listeners = read_note(before.cancel).listeners if before is not None and before.cancel is not None else []
    for listener in listeners:
        tables.call(listener)
    return listeners


def last_told(run: StoredRun, epoch: int) -> list[EventRow]:
    """Return what a run has told and that isn't stored yet, its last event at the end. Trying again, it is the same."""
    if run.recorder is None:
        return []
    if run.recorder.written is None:
        run.recorder.written = rows_of(run.run_id, run.recorder.take_all(), epoch)
    rows: list[EventRow] = run.recorder.written
    return rows


def decide(
    tables: SharedTables, run_id: str, epoch: int, choose: Callable[[], StoredRun | None]
) -> StoredRequest | None:
    """Record the end of a run unless it was cancelled; then return the request. THE decision between processes.

    Raises:
        LeaseLostError: another process has the run now.
    """
    before = control(tables, run_id)
    if before is not None and before.cancel is not None:
        return read_note(before.cancel).request()
    if before is not None and (before.epoch != epoch or before.is_final):
        raise LeaseLostError(f"run {run_id} was taken over: its epoch is {before.epoch}, and was {epoch} here")
    tables.see_that_it_is_locked()
    run = choose()
    if run is not None:
        end(tables, run, epoch, before)
    return None


def ask(tables: SharedTables, run_id: str, request: StoredRequest, listener: str) -> Answer:
    """Record a cancel that this process asks for. If nobody can carry it out, the run is ended here and now."""
    tables.lock_run(run_id)
    named = control(tables, run_id)
    if named is None:
        tables.put_intent(run_id, Note.of(request).text_of())
        return Answer(Outcome.unknown, run_id)
    row = named if request.reach == "run" else control(tables, named.root_run_id) or named
    if not row.is_final and is_over(row, tables):
        mark(tables, row.root_run_id)
        row = control(tables, row.run_id) or row
    if row.is_final:
        outcome = Outcome.already_cancelled if row.status == "CANCELLED" else Outcome.finished
        return Answer(outcome, row.run_id, row)
    wanted = Note.of(request, listener)
    if row.cancel is not None:
        outcome, wanted = Outcome.already_cancelling, read_note(row.cancel).repeated(request, listener)
    else:
        outcome = Outcome.accepted
    if not tables.set_cancel(row.run_id, row.epoch, wanted.text_of()):
        raise StoreError(f"run {row.run_id} changed while it was being cancelled")
    if row.status == PAUSED or row.process == QUEUED or reason_of(row, tables) is not None:
        mark(tables, row.root_run_id)
    owner = tables.owner(row.process or "")
    if owner is not None:
        tables.call(owner[0])
    return Answer(outcome, row.run_id, row, wanted, owner[0] if owner is not None else None)


def note(tables: SharedTables, run_id: str, epoch: int, request: StoredRequest) -> None:
    """Record that a run of this process is being cancelled, and that its process knows."""
    row = control(tables, run_id)
    if row is None or row.is_final or row.epoch != epoch:
        return
    known = read_note(row.cancel) if row.cancel is not None else Note.of(request)
    if known.delivered_at is None:
        tables.set_cancel(run_id, epoch, replace(known, delivered_at=time.time()).text_of())


def replace_run(tables: SharedTables, run: StoredRun, text: str | None) -> None:
    """Record a run that this process hasn't claimed: one that never began, or what a program writes itself.

    Raises:
        LeaseLostError: another process works on a run with this id.
    """
    before = control(tables, run.run_id)
    if before is not None and not before.is_final and is_live_elsewhere(before, tables):
        raise LeaseLostError(f"{words(before.process)} works on the run {run.run_id}")
    tried = run.recorder.written if run.recorder is not None and run.status.is_final else None
    if tried and tables.last_event(run.run_id) == (tried[-1].last_event, True):
        return  # it is written already, with all that the run told before; an end that is tried again may come twice
    if (
        run.recorder is not None and run.status.is_final and _was_claimed_here(before, run)
    ):  # its end was refused before
        raise LeaseLostError(f"run {run.run_id} was cancelled or taken over before its end could be written")
    epoch = before.epoch if before is not None else 0
    put_run(tables, run, run.process or this_process(), text, epoch)
    if run.recorder is not None or not run.status.is_final:  # what an earlier run of this id has told
        tables.delete_events(run.run_id)
    if run.recorder is not None and run.status.is_final:
        tables.put_last_events(last_told(run, epoch))


def _was_claimed_here(row: RunRow | None, run: StoredRun) -> bool:
    """Whether a record that has no end is that of this very run, begun in this process."""
    if row is None or row.is_final or row.status == PAUSED:
        return False
    return row.process == this_process() and row.created_at == run.created_at


def take_lost(tables: SharedTables, run_id: str) -> tuple[RunRow, StoredRun] | None:
    """Take a run of a workflow whose process has died, if it may go on; end what hung below it.

    Not one that still lives here, from before another process took it: it would write in the new epoch. It ends at the
    next look, and is taken after that. Nor one whose terminal event is stored: that one ends by this.
    """
    known = control(tables, run_id)
    if known is None or registry.get(run_id) is not None or not (may_go_on(known) or is_over(known, tables)):
        return None
    mark(tables, known.root_run_id)  # what it had started; it itself stays, if it may go on
    row = tables.get_run(run_id)
    if row is None or row.is_final or not may_go_on(row) or reason_of(row, tables) is None:
        return None
    parts = tables.parts(row.run_id)
    row.output, options = encode(so_far(row, parts, dead=True)), KeptOptions.of(row.options)
    options.spent = spent_by(parts) or options.spent
    row.options = options.text()
    row.process, row.epoch, row.updated_at = this_process(), row.epoch + 1, time.time()
    tables.put_run(row)
    run = stored_of(row, with_children(tables, row))
    last = tables.last_event(row.run_id)
    run.options = options
    run.next_event = next_after(last[0] if last is not None else None)
    return row, run


def leave_lost(tables: SharedTables, run_id: str, process: str | None) -> None:
    """Undo the taking of a run that nobody heard of, so that it can be taken again.

    Parameters:
        process: that which has died.
    """
    row = tables.get_run(run_id)
    if row is not None and not row.is_final and row.process == this_process() and registry.get(run_id) is None:
        row.process = process
        tables.put_run(row)
