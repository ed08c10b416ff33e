"""Converts runs to rows and back. Called by the store, in the writer's thread and in others.

Runs that did the work of steps are rows of their own, and are not stored again in the output of their workflow.
"""

from __future__ import annotations

import time
from copy import copy
from typing import Any

from desist.db.records.codec import decode_run, encode, unreadable
from desist.db.tables.base import RunRow
from desist.db.tables.tables import Tables
from desist.exceptions import UnreadableError
from desist.run.events.base import RunStatus
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.storage.values import SessionUpdate, StoredRun

__all__ = ["put_run", "row_of", "stored_of", "update_session", "with_answers", "with_children"]


def row_of(tables: Tables, run: StoredRun, process: str, text: str | None, epoch: int = 0) -> RunRow:
    """Return the row of a run. `text`: the encoded output, if it was encoded before."""
    return RunRow(
        run.run_id,
        run.kind,
        run.status.value,
        run.session_id,
        run.owner_id,
        run.user_id,
        run.root_run_id,
        run.parent_run_id,
        process,
        run.created_at,
        time.time(),
        text or encode(_without_children(tables, run)),
        epoch,
        None,
        int(run.resumable),
        run.options.text() if run.options is not None and run.resumable else None,
    )


def put_run(tables: Tables, run: StoredRun, process: str, text: str | None, epoch: int = 0) -> None:
    """Store a run, and its change of the session."""
    tables.runs.put(row_of(tables, run, process, text, epoch))
    if run.session is not None:
        update_session(tables, run.session)


def update_session(tables: Tables, change: SessionUpdate) -> None:
    """Apply a change to the stored session."""
    tables.sessions.put(change.apply(tables.sessions.get(change.session_id, change.kind)))


def _without_children(tables: Tables, run: StoredRun) -> Any:
    """Return the output to store: without the runs that are rows of their own."""
    output = run.output
    if getattr(output, "store_error", None) is not None:  # of an earlier attempt to store this output
        output = copy(output)
        output.store_error = None
    inner = getattr(output, "step_executor_runs", None)
    if not inner:
        return output
    rows = {row.run_id for row in tables.runs.children(run.run_id)}
    slim: Any = copy(output)
    slim.step_executor_runs = [one for one in inner if one.run_id not in rows or not one.workflow_step_id] or None
    return slim


def with_children(tables: Tables, row: RunRow) -> Any:
    """Return the output of a run, with the runs that did the work of its steps, in the order of their starts.

    Other runs that functions or tools started are not part of the output.
    """
    top = decode_run(row)
    open_ = [(row, top)]
    while open_:  # no recursion: runs may be nested at any depth
        row, output = open_.pop()
        if isinstance(output, WorkflowRunOutput):
            inner = [(child, _child(child)) for child in tables.runs.children(row.run_id)]
            own = [(child, run) for child, run in inner if run.workflow_step_id or run.store_error is not None]
            output.step_executor_runs = [*[run for _, run in own], *(output.step_executor_runs or [])] or None
            open_ += own
    return top


def with_answers(tables: Tables, row: RunRow, output: Any) -> Any:
    """Return the output of a run, with the answers that were given since it paused."""
    waiting: list[Any] = list(getattr(output, "requirements", None) or ())
    for step in getattr(output, "step_requirements", None) or ():
        waiting += [step, *(step.executor_requirements or ())]
    waiting += getattr(output, "error_requirements", None) or ()
    if row.status == RunStatus.paused.value and waiting:
        answers = {one.requirement_id: one for one in tables.requirements.of_tree(row.run_id)}
        for one in waiting:
            if (found := answers.get(one.id)) is not None and not found.is_open:
                one.apply(found)
    return output


def _child(row: RunRow) -> Any:
    """Return the output of a child. If it can't be decoded, the output of its parent still can."""
    try:
        return decode_run(row)
    except UnreadableError as error:
        return unreadable(row, error)


def stored_of(row: RunRow, output: Any, status: RunStatus | None = None) -> StoredRun:
    """Return a run from its row and its output."""
    return StoredRun(
        run_id=row.run_id,
        kind=row.kind,
        status=status or RunStatus(row.status),
        output=output,
        root_run_id=row.root_run_id,
        parent_run_id=row.parent_run_id,
        session_id=row.session_id,
        owner_id=row.owner_id,
        user_id=row.user_id,
        created_at=row.created_at,
        process=row.process,
    )
