"""The output of a run that has no end, made of its parts: how far it is, or how far it had come when its process died.

Pure: rows in, an output out. Who is dead is known to `identity`, what becomes of the row to `table_store`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from desist.db.process.identity import describe_process
from desist.db.records.cancel_request import record_of
from desist.db.records.codec import decode_part, decode_run, part_path
from desist.db.recovery.partial_text import PartialText, Told
from desist.db.tables.base import QUEUED, PartRow, RunRow
from desist.exceptions import StoreError
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.message import CANCELLED_RESULT, Message, ToolExecution
from desist.run.records.tool_results import missing_tool_results, normalize_history
from desist.workflow.types import StepOutput

__all__ = ["budget_usage", "completed", "rebuild_cancelled", "rebuild_crashed", "rebuild_output", "unreadable"]

log = logging.getLogger("desist.db")
#: Kind, value, and where it stands.
_Part = tuple[str, Any, dict[str, Any]]


def rebuild_output(row: RunRow, parts: Sequence[PartRow], *, dead: bool = False) -> Any:
    """Return the output of a run as far as it has come."""
    output = decode_run(row)
    known = [part for part in _effective_parts(parts) if part[0] != "again"]
    if row.cancel is not None:
        output.status, output.cancel = RunStatus.cancelling, record_of(row.cancel)
    elif (known or row.process != QUEUED) and output.status is RunStatus.pending:
        output.status = RunStatus.running
    if isinstance(output, RunOutput):
        output.messages = [value for kind, value, _ in known if kind == "message"]
        output.tools = [value for kind, value, _ in known if kind == "tool"]
    else:
        ended = _steps(known, dead=dead)
        # A run that was taken up again records anew what had finished; until that is done, what it began with counts.
        output.step_results = max(ended, output.step_results, key=lambda steps: (_finished(steps), len(steps)))
    return output


def budget_usage(parts: Sequence[PartRow]) -> Any:
    """Return what a run has `BudgetUsage` of its budget, or None if that isn't known."""
    known = [part for part in parts if part.kind == "spent"]
    return decode_part(known[-1]) if known else None


def rebuild_crashed(
    row: RunRow, parts: Sequence[PartRow], events: Sequence[Told] = (), error: str | None = None
) -> Any:
    """Return the output of a run whose process is gone: what had finished is kept, open calls are sealed.

    Parameters:
        told: the events of the stream in which it told: what it was saying is kept, too.
        error: why; None: its process is gone.
    """
    output = rebuild_output(row, parts, dead=True)
    output.status = RunStatus.error
    output.error = error or f"{describe_process(row.process)} ended without recording the end of this run"
    PartialText(events, _effective_parts(parts)).put_into(output)
    if isinstance(output, RunOutput):
        _add_missing_results(output)
        said = [message.content for message in output.messages or [] if message.role == "assistant" and message.content]
        output.content = output.content or "".join(said) or None
    elif output.content is None:
        done = [step.content for step in output.step_results if step.content is not None]
        output.content = done[-1] if done else None
    return output


def rebuild_cancelled(row: RunRow, parts: Sequence[PartRow], request: str, events: Sequence[Told] = ()) -> Any:
    """Return the output of a run that was cancelled, and whose process is gone or doesn't answer."""
    output = rebuild_crashed(row, parts, events)
    record = record_of(request)
    record.settled_at = time.time()
    output.status, output.error, output.cancel = RunStatus.cancelled, None, record
    if not isinstance(output, RunOutput):
        began = bool(output.step_results) or row.process != QUEUED
        output.cancellation_stage = CancellationStage.executing if began else CancellationStage.pending
    return output


def completed(row: RunRow, parts: Sequence[PartRow], told: Sequence[Told] = ()) -> Any:
    """Return the output of a run that is known to have completed, as far as its parts and events tell it."""
    output = rebuild_output(row, parts)
    output.status, output.cancel = RunStatus.completed, None
    if isinstance(output, RunOutput):
        said = [
            data["content"] for _, data in told if data["event"] == "RunContent" and data.get("run_id") == row.run_id
        ]
        answers = [message.content for message in output.messages or [] if message.role == "assistant"]
        output.content = "".join(piece for piece in said if isinstance(piece, str)) or (answers or [None])[-1]
    else:
        done = [step.content for step in output.step_results if step.content is not None]
        output.content = done[-1] if done else None
    return output


def unreadable(row: RunRow, request: str | None, error: str) -> Any:
    """Return what is told of the end of a run whose record can't be read."""
    kind = RunOutput if row.kind == "agent" else WorkflowRunOutput
    output: Any = kind(run_id=row.run_id, session_id=row.session_id, status=RunStatus.error)
    output.error = error
    if request is not None:
        output.status, output.error, output.cancel = RunStatus.cancelled, None, record_of(request)
        output.cancel.settled_at = time.time()
    return output


def _add_missing_results(output: RunOutput) -> None:
    """Give each call its result: the one that its tool returned, or a synthetic one."""
    messages, tools = output.messages or [], output.tools or []
    told = {message.tool_call_id for message in messages if message.role == "tool"}
    messages += [_result(tool) for tool in tools if tool.tool_call_id not in told]
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
    )


def _finished(steps: Sequence[Any]) -> int:
    """Return how many of these steps, and of those in them, have finished."""
    return sum(step.finished + _finished(step.steps or ()) for step in steps if isinstance(step, StepOutput))


def _effective_parts(parts: Sequence[PartRow]) -> list[_Part]:
    """Return the parts that count: kind, value and place. One that can't be read is left out, and said."""
    known: list[_Part] = []
    for part in parts:
        try:
            if part.kind == "again":
                known[:] = [("again", None, part_path(part))]
                continue
            known.append((part.kind, decode_part(part), part_path(part)))
        except StoreError as error:
            log.error("%s", error)
            if part.kind == "again":  # what came before it doesn't count, wherever that stood
                known.clear()
    return known


def _steps(parts: Sequence[_Part], *, dead: bool) -> list[Any]:
    """Return what the steps made: a container holds what ended in it, and one that didn't end what had.

    Containers begin before what is in them, and end after it.

    Parameters:
        dead: tell what had begun although nothing in it has ended: a run that did its work, by its id, and what a
            container had decided, are taken over.
    """
    inside: dict[str | None, list[StepOutput]] = {None: []}  # by the step around; None: the workflow itself
    begun: dict[str | None, tuple[StepOutput, str | None]] = {}
    for kind, output, at in parts:
        if kind == "begun":
            begun[output.step_id] = (output, at.get("step_id"))
        elif kind == "step":
            begun.pop(output.step_id, None)
            inside.pop(output.step_id, None)  # the container has them in itself
            inside.setdefault(at.get("step_id"), []).append(output)
    for output, above in reversed(begun.values()):
        output.steps = inside.pop(output.step_id, None)
        if output.steps:
            output.content = output.steps[-1].content
        if output.steps or dead:
            inside.setdefault(above, []).append(output)
    return inside[None]
