"""Rebuilds the output of a run from its row and its checkpoints: a live run, or a run whose process has died.

Pure: `orphans` decides which runs are dead, and stores what is rebuilt here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from desist.db.process.identity import describe_process
from desist.db.records.cancel_request import record_of
from desist.db.records.codec import decode_part, decode_run, part_position
from desist.db.recovery.partial_text import PartialText, StoredEvent
from desist.db.tables.base import QUEUED, PartRow, RunRow
from desist.exceptions import StoreError
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.message import CANCELLED_RESULT, NOT_CALLED_RESULT, Message, ToolExecution
from desist.run.records.tool_results import missing_tool_results, normalize_history
from desist.workflow.types import StepOutput

__all__ = ["budget_usage", "completed", "rebuild_cancelled", "rebuild_crashed", "rebuild_output", "unreadable"]

log = logging.getLogger("desist.db")
#: Kind, value and position of a part.
_Part = tuple[str, Any, dict[str, Any]]


def rebuild_output(row: RunRow, parts: Sequence[PartRow], *, dead: bool = False) -> Any:
    """Return the output of a live run, with everything that has finished."""
    output = decode_run(row)
    known = [part for part in _effective_parts(parts) if part[0] != "again"]
    if output.status is RunStatus.paused and row.status != RunStatus.paused.value:
        output.status = RunStatus(row.status)  # it goes on
    if row.cancel is not None:
        output.status, output.cancel = RunStatus.cancelling, record_of(row.cancel)
    elif (known or row.process != QUEUED) and output.status is RunStatus.pending:
        output.status = RunStatus.running
    if isinstance(output, RunOutput):
        # A run that goes on after a pause stores its messages again; until then, those that it paused with count.
        stored = [value for kind, value, _ in known if kind == "message"]
        output.messages = max(stored, output.messages or [], key=len)
        made = {value.tool_call_id: value for kind, value, _ in known if kind == "tool"}
        output.tools = list(({tool.tool_call_id: tool for tool in output.tools or []} | made).values())
    else:
        ended = _steps(known, dead=dead)
        # A resumed run stores its finished steps again; until then, the steps that it started with count.
        output.step_results = max(ended, output.step_results, key=lambda steps: (_finished(steps), len(steps)))
    return output


def budget_usage(parts: Sequence[PartRow]) -> Any:
    """Return the stored `BudgetUsage` of a run, or None."""
    known = [part for part in parts if part.kind == "spent"]
    return decode_part(known[-1]) if known else None


def rebuild_crashed(
    row: RunRow, parts: Sequence[PartRow], events: Sequence[StoredEvent] = (), error: str | None = None
) -> Any:
    """Return the output of a run whose process is gone: finished work is kept, open tool calls get a result.

    Parameters:
        events: the events of the stream of the run, for the text that it was emitting.
        error: the reason; None: the process is gone.
    """
    output = rebuild_output(row, parts, dead=True)
    if row.status == RunStatus.paused.value:  # nothing was being emitted; its content says what it waited for
        events, output.content = (), None
        _close_requirements(output)
    output.status = RunStatus.error
    output.error = error or f"{describe_process(row.process)} ended without storing the end of this run"
    PartialText(events, _effective_parts(parts)).put_into(output)
    if isinstance(output, RunOutput):
        _add_missing_results(output, paused=row.status == RunStatus.paused.value)
        pieces = [
            message.content for message in output.messages or [] if message.role == "assistant" and message.content
        ]
        output.content = output.content or "".join(pieces) or None
    elif output.content is None:
        done = [step.content for step in output.step_results if step.content is not None]
        output.content = done[-1] if done else None
    return output


def rebuild_cancelled(row: RunRow, parts: Sequence[PartRow], request: str, events: Sequence[StoredEvent] = ()) -> Any:
    """Return the output of a cancelled run whose process is gone or does not respond."""
    output = rebuild_crashed(row, parts, events)
    record = record_of(request)
    record.settled_at = time.time()
    output.status, output.error, output.cancel = RunStatus.cancelled, None, record
    if not isinstance(output, RunOutput):
        began = bool(output.step_results) or row.process != QUEUED
        output.cancellation_stage = CancellationStage.executing if began else CancellationStage.pending
    if row.status == RunStatus.paused.value:
        output.cancellation_stage = CancellationStage.paused
    return output


def completed(row: RunRow, parts: Sequence[PartRow], events: Sequence[StoredEvent] = ()) -> Any:
    """Return the output of a run that is known to have completed, as far as its parts and events have it."""
    output = rebuild_output(row, parts)
    output.status, output.cancel = RunStatus.completed, None
    if isinstance(output, RunOutput):
        pieces = [
            data["content"] for _, data in events if data["event"] == "RunContent" and data.get("run_id") == row.run_id
        ]
        answers = [message.content for message in output.messages or [] if message.role == "assistant"]
        output.content = "".join(piece for piece in pieces if isinstance(piece, str)) or (answers or [None])[-1]
    else:
        done = [step.content for step in output.step_results if step.content is not None]
        output.content = done[-1] if done else None
    return output


def unreadable(row: RunRow, request: str | None, error: str) -> Any:
    """Return the output that is reported at the end of a run whose record can't be decoded."""
    kind = RunOutput if row.kind == "agent" else WorkflowRunOutput
    output: Any = kind(run_id=row.run_id, session_id=row.session_id, status=RunStatus.error)
    output.error = error
    if request is not None:
        output.status, output.error, output.cancel = RunStatus.cancelled, None, record_of(request)
        output.cancel.settled_at = time.time()
    return output


def _add_missing_results(output: RunOutput, *, paused: bool) -> None:
    """Give each tool call its result: the stored result of the tool, or a synthetic one.

    Parameters:
        paused: whether the run was waiting, so that the calls that need a human were not made.
    """
    messages, tools = output.messages or [], output.tools or []
    known = {message.tool_call_id for message in messages if message.role == "tool"}
    for tool in tools:
        if tool.ended_at is None and tool.is_paused and not tool.cancelled:
            tool.cancelled, tool.result = True, NOT_CALLED_RESULT if paused else CANCELLED_RESULT
    messages += [_result(tool) for tool in tools if tool.tool_call_id not in known]
    open_calls = missing_tool_results(messages, CANCELLED_RESULT)
    tools += [
        ToolExecution(tool_call_id=call.tool_call_id, tool_name=call.tool_name, result=CANCELLED_RESULT, cancelled=True)
        for call in open_calls
    ]
    output.messages, output.tools = normalize_history([*messages, *open_calls]), tools


def _result(tool: ToolExecution) -> Message:
    return Message(
        "tool",
        tool.result,
        tool_call_id=tool.tool_call_id,
        tool_name=tool.tool_name,
        tool_call_error=bool(tool.tool_call_error),
        cancelled=tool.cancelled,
    )


def _close_requirements(output: Any) -> None:
    """Close what a paused run waited for."""
    found: list[Any] = list(getattr(output, "requirements", None) or ())
    if isinstance(output, WorkflowRunOutput):
        found += [*(output.step_requirements or ()), *(output.error_requirements or ())]
        found += [inner for one in output.step_requirements or () for inner in one.executor_requirements or ()]
        for step in output.step_results:
            if isinstance(step, StepOutput):
                step.end_pause()
    for one in found:
        if one.state == "open":
            one.state, one.answered_at = "closed", time.time()


def _finished(steps: Sequence[Any]) -> int:
    """Return how many of these steps, and of the steps in them, have finished."""
    return sum(step.finished + _finished(step.steps or ()) for step in steps if isinstance(step, StepOutput))


def _effective_parts(parts: Sequence[PartRow]) -> list[_Part]:
    """Return the parts since the last start of the run. A part that can't be decoded is logged and left out."""
    known: list[_Part] = []
    for part in parts:
        try:
            if part.kind == "again":
                known[:] = [("again", None, part_position(part))]
                continue
            known.append((part.kind, decode_part(part), part_position(part)))
        except StoreError as error:
            log.error("%s", error)
            if part.kind == "again":  # earlier parts don't count, whatever its position was
                known.clear()
    return known


def _steps(parts: Sequence[_Part], *, dead: bool) -> list[Any]:
    """Return the outputs of the steps. A container has the outputs of the steps in it, even if it has not ended.

    The part of a container begins before those of its steps, and ends after them.

    Parameters:
        dead: include steps that have begun although nothing in them has ended: a resuming process takes over the id of
            the run that did the work of the step, and what a container had decided.
    """
    inside: dict[str | None, list[StepOutput]] = {None: []}  # by the container; None: the workflow itself
    begun: dict[str | None, tuple[StepOutput, str | None]] = {}
    for kind, output, at in parts:
        if kind == "begun":
            begun[output.step_id] = (output, at.get("step_id"))
        elif kind == "step":
            begun.pop(output.step_id, None)
            inside.pop(output.step_id, None)  # the output of the container has them
            inside.setdefault(at.get("step_id"), []).append(output)
    for output, above in reversed(begun.values()):
        output.steps = inside.pop(output.step_id, None)
        if output.steps:
            output.content = output.steps[-1].content
        if output.steps or dead:
            inside.setdefault(above, []).append(output)
    return inside[None]
