"""The transactions about a paused run: answer what it waits for, take it to go on, let a deadline take effect.

The rules are those of `transactions`. Each transaction first locks the row of the root of the tree, as a cancel does,
so answers, cancels, deadlines and continuations of one tree happen one after the other. Errors are returned, not
raised: they are answers, and must not undo the other jobs of a batch.
"""

from __future__ import annotations

import time
from dataclasses import replace

from desist.db.coordination.transactions import request_cancel
from desist.db.events.rows import next_owner_index
from desist.db.process.identity import describe_process, this_process
from desist.db.records.rows import stored_of, with_children
from desist.db.recovery.orphans import PAUSED, end_orphans
from desist.db.tables.base import RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import AnswerRefusedError, ConfigurationError, DesistError, RunStateError
from desist.run.events.base import RunStatus
from desist.run.records.requirement import Answer, AnswerOutcome, AnswerReceipt, Requirement, decide, resolve_timeout
from desist.run.storage.paused_runs import open_message, receipt_of, refused_continuation, timeout_request
from desist.run.storage.values import StoredRun

__all__ = ["FiredDeadline", "answer", "fire", "put_back", "take"]

#: The id of a run whose deadline took effect, and the process to notify, if its cancel is for one.
FiredDeadline = tuple[str, str | None]


def answer(tables: SqlTables, run_id: str, requirement_id: str, given: Answer) -> AnswerReceipt:
    """Answer a requirement, once."""
    found = tables.requirements.get(requirement_id)
    if found is not None and run_id not in (found.run_id, found.root_run_id):
        found = None
    root = tables.runs.header(found.root_run_id if found is not None else run_id)
    found = tables.requirements.get(requirement_id) if found is not None else None  # as it is under the lock
    ended = root is None or root.is_final or root.cancel is not None
    outcome, after = decide(found, given, tables.now(), run_ended=ended and (found is not None or root is not None))
    if outcome is AnswerOutcome.accepted and after is not None and not tables.requirements.resolve(after):
        outcome, after = AnswerOutcome.stale, found  # the row can't change under the lock, but for its digest
    known = tables.requirements.of_tree(found.root_run_id) if found is not None else []
    return receipt_of(outcome, run_id, requirement_id, after, known)


def take(tables: SqlTables, run_id: str) -> tuple[RunRow, StoredRun, list[Requirement]] | DesistError:
    """Make this process the owner of a paused run whose requirements are all resolved."""
    row = tables.runs.get(run_id)
    if row is None:
        return ConfigurationError(f"there is no run {run_id!r} in this database")
    known = tables.requirements.of_tree(run_id)
    if row.status != PAUSED or row.cancel is not None:
        error = refused_continuation(run_id, known, ended=row.is_final or row.cancel is not None)
        if not isinstance(error, AnswerRefusedError) and not row.is_final:
            return RunStateError(f"run {run_id} is {row.status}, in {describe_process(row.process)}")
        return error
    if message := open_message(run_id, known):
        return ConfigurationError(message)
    run = stored_of(row, with_children(tables, row))
    row.process, row.status, row.epoch = this_process(), RunStatus.running.value, row.epoch + 1
    row.updated_at = time.time()
    tables.runs.put(row)
    last = tables.events.last(run_id)
    run.next_event = next_owner_index(last[0] if last is not None else None)
    return row, run, known


def put_back(tables: SqlTables, run_id: str, epoch: int) -> None:
    """Undo `take`: the run could not be started. If it was cancelled meanwhile, it ends."""
    row = tables.runs.get(run_id)
    if row is None or row.is_final or row.process != this_process() or row.epoch != epoch:
        return
    row.process, row.status = None, PAUSED
    tables.runs.put(row)
    if row.cancel is not None:
        end_orphans(tables, row.root_run_id)


def fire(tables: SqlTables, due: Requirement, listener: str) -> FiredDeadline | None:
    """Let a deadline take effect; return None if an answer, a cancel or another process was first."""
    root = tables.runs.header(due.root_run_id)
    found, now = tables.requirements.get(due.requirement_id), tables.now()
    if found is None or not found.is_open or found.deadline is None or found.deadline > now:
        return None
    if root is None or root.is_final:
        tables.requirements.close(found.run_id)
        return None
    after = resolve_timeout(replace(found), now)
    if not tables.requirements.resolve(after):
        return None
    if after.answer is not None:
        return found.root_run_id, None
    cancelled = request_cancel(tables, found.root_run_id, timeout_request(found), listener)
    return found.root_run_id, cancelled.address
