"""The output of a run that has no end, made of its parts: how far it is, or how far it had come when its process died.

Pure: rows in, an output out. Who is dead is known to `owner`, what becomes of the row to `store`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from desist.db.codec import decode_part, decode_run, place_of
from desist.db.owner import words
from desist.db.requests import record_of
from desist.db.tables import PartRow, RunRow
from desist.exceptions import StoreError
from desist.run.agent_output import RunOutput
from desist.run.base import RunStatus
from desist.run.message import CANCELLED_RESULT, Message, ToolExecution
from desist.run.repair import repaired, sealed
from desist.workflow.types import StepOutput

__all__ = ["cancelled", "died", "so_far"]

log = logging.getLogger("desist.db")


def so_far(row: RunRow, parts: Sequence[PartRow]) -> Any:
    """Return the output of a run as far as it has come."""
    output = decode_run(row)
    known = _counting(parts)
    if row.cancel is not None:
        output.status, output.cancel = RunStatus.cancelling, record_of(row.cancel)
    elif known and output.status is RunStatus.pending:
        output.status = RunStatus.running
    if isinstance(output, RunOutput):
        output.messages = [value for kind, value, _ in known if kind == "message"]
        output.tools = [value for kind, value, _ in known if kind == "tool"]
    else:
        ended = _steps([(value, at) for kind, value, at in known if kind == "step"])
        # A run that was taken up again records anew what had finished; until that is done, what it began with counts.
        output.step_results = max(output.step_results, ended, key=_finished)
    return output


def died(row: RunRow, parts: Sequence[PartRow], error: str | None = None) -> Any:
    """Return the output of a run whose process is gone: what had finished is kept, open calls are sealed."""
    output = so_far(row, parts)
    output.status = RunStatus.error
    output.error = error or f"{words(row.process)} ended without recording the end of this run"
    if isinstance(output, RunOutput):
        _tell_results(output)
        said = [message.content for message in output.messages or [] if message.role == "assistant" and message.content]
        output.content = output.content or "".join(said) or None
    elif output.content is None:
        done = [step.content for step in output.step_results if step.content is not None]
        output.content = done[-1] if done else None
    return output


def cancelled(row: RunRow, parts: Sequence[PartRow], request: str) -> Any:
    """Return the output of a run that was cancelled, and whose process is gone or doesn't answer."""
    output = died(row, parts)
    record = record_of(request)
    record.settled_at = time.time()
    output.status, output.error, output.cancel = RunStatus.cancelled, None, record
    return output


def _tell_results(output: RunOutput) -> None:
    """Give each call its result: the one that its tool returned, or a synthetic one."""
    messages, tools = output.messages or [], output.tools or []
    told = {message.tool_call_id for message in messages if message.role == "tool"}
    messages += [_result(tool) for tool in tools if tool.tool_call_id not in told]
    open_calls = sealed(messages, CANCELLED_RESULT)
    tools += [
        ToolExecution(tool_call_id=call.tool_call_id, tool_name=call.tool_name, result=CANCELLED_RESULT, cancelled=True)
        for call in open_calls
    ]
    output.messages, output.tools = repaired([*messages, *open_calls]), tools


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


def _counting(parts: Sequence[PartRow]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the parts that count: kind, value and place. One that can't be read is left out, and said."""
    known: list[tuple[str, Any, dict[str, Any]]] = []
    for part in parts:
        if part.kind == "again":
            known.clear()
            continue
        try:
            known.append((part.kind, decode_part(part), place_of(part)))
        except StoreError as error:
            log.error("%s", error)
    return known


def _steps(ended: Sequence[tuple[StepOutput, dict[str, Any]]]) -> list[Any]:
    """Return what the steps made: a container holds what ended in it, and one that didn't end what had.

    Steps come in the order of their ends, so that a container comes after all that is in it, and takes it.
    """
    top: list[StepOutput] = []
    inside: dict[str, list[tuple[StepOutput, dict[str, Any]]]] = {}  # by the step around it
    for output, at in ended:
        inside.pop(output.step_id or "", None)  # the container has them in itself
        above = at.get("step_id")
        if above is None:
            top.append(output)
        else:
            inside.setdefault(above, []).append((output, at))
    while inside:  # containers that were open, the innermost first
        step_id = max(inside, key=lambda known: inside[known][0][1].get("nested_depth") or 0)
        ended_in_it = inside.pop(step_id)
        around = ended_in_it[0][1]
        made = StepOutput(
            step_name=around.get("step_name"),
            step_id=step_id,
            step_type=around.get("step_type"),
            content=ended_in_it[-1][0].content,
            success=False,
            steps=[output for output, _ in ended_in_it],
        )
        above = around.get("parent_step_id")
        if above is None:
            top.append(made)
        else:
            depth = (around.get("nested_depth") or 1) - 1
            inside.setdefault(above, []).append((made, {"step_id": above, "nested_depth": depth}))
    return top
