"""Outputs and checkpoints of runs as JSON text. Decoding returns objects of the public classes.

Values of other classes come back as the plain values that were stored: a pydantic object as a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from desist.db.tables.base import PartRow, RunRow
from desist.exceptions import UnreadableError
from desist.run.events.base import RunStatus
from desist.run.options.budget import BudgetUsage
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.json_values import dump
from desist.run.records.message import Message, ToolExecution
from desist.run.records.record import reviver
from desist.workflow.types import StepOutput

__all__ = [
    "decode_output",
    "decode_part",
    "decode_run",
    "decode_step",
    "encode",
    "encode_part",
    "part_position",
    "unreadable",
]

_OUTPUTS: dict[str, Any] = {"agent": RunOutput, "workflow": WorkflowRunOutput}
_PARTS: dict[str, Any] = {
    "message": reviver(Message),
    "tool": reviver(ToolExecution),
    "step": reviver(StepOutput),
    "begun": reviver(StepOutput),
    "again": lambda value: None,
    "spent": reviver(BudgetUsage),
}


def encode(value: Any) -> str:
    """Return a value as JSON text. Never fails."""
    return dump(value).decode()


def encode_part(run_id: str, kind: str, value: Any, at: Mapping[str, Any] | None) -> PartRow:
    """Return a checkpoint as a row. Called at once, because the value may change later."""
    return PartRow(run_id, kind, None if at is None else encode(at), encode(value))


def decode_run(row: RunRow) -> Any:
    """Return the output of a run.

    Raises:
        UnreadableError: the text can't be decoded; the message names the run.
    """
    try:
        return decode_output(row.kind, row.output)
    except Exception as error:  # any kind: the stored text may be anything
        words = f"{type(error).__name__}: {error}"[:500]
        raise UnreadableError(f"the stored {row.kind} run {row.run_id} can't be read: {words}") from error


def unreadable(row: RunRow, error: UnreadableError) -> Any:
    """Return an output for a run whose own can't be decoded: its ids, its status and the reason."""
    known = {
        "run_id": row.run_id,
        "session_id": row.session_id,
        "user_id": row.user_id,
        "parent_run_id": row.parent_run_id,
        "status": RunStatus(row.status),
        "store_error": str(error),
    }
    kind = _OUTPUTS.get(row.kind, RunOutput)
    return kind(**known, **{f"{'workflow' if kind is WorkflowRunOutput else 'agent'}_id": row.owner_id})


def decode_output(kind: str, text: str) -> Any:
    """Return the output of a run, as `encode` has written it."""
    output = _OUTPUTS[kind].from_dict(msgspec.json.decode(text))
    if isinstance(output, WorkflowRunOutput):
        output.step_results = [decode_step(value) for value in output.step_results]
        for run in output.step_executor_runs or ():
            if isinstance(run, WorkflowRunOutput):
                run.step_results = [decode_step(value) for value in run.step_results]
    return output


def decode_step(value: Any) -> Any:
    """Return the output of a step; the output of a container may be a list."""
    if isinstance(value, str):  # an older version replaced deeply nested outputs by text
        return StepOutput(content=value)
    return [decode_step(one) for one in value] if isinstance(value, list) else _PARTS["step"](value)


def decode_part(row: PartRow) -> Any:
    """Return the value of a checkpoint.

    Raises:
        UnreadableError: the text can't be decoded.
    """
    try:
        return _PARTS[row.kind](msgspec.json.decode(row.value))
    except Exception as error:
        raise UnreadableError(f"a stored part of run {row.run_id} can't be read: {error}") from error


def part_position(row: PartRow) -> dict[str, Any]:
    """Return the position of the step of a checkpoint.

    Raises:
        UnreadableError: the text can't be decoded.
    """
    try:
        return msgspec.json.decode(row.at, type=dict[str, Any]) if row.at else {}
    except ValueError as error:
        raise UnreadableError(f"the position of a stored part of run {row.run_id} can't be read: {error}") from error
