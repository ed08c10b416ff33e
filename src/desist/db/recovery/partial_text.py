"""Rebuilds the text that a run was emitting when its process died, from its stored events.

Called when such a run is ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from desist.db.events.rows import decoded, is_content_delta
from desist.db.tables.base import RunRow
from desist.db.tables.tables import Tables
from desist.run.events.base import content_text
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.message import Message
from desist.workflow.types import StepOutput, StepType, joined

__all__ = ["PartialText", "events_of_stream"]

#: The number of an event, and the event as a dict.
StoredEvent = tuple[int, dict[str, Any]]
#: Kind, value and position of a part.
Part = tuple[str, Any, dict[str, Any]]


def events_of_stream(tables: Tables, row: RunRow) -> list[StoredEvent]:
    """Return the events of the stream that has the events of a run: its own, or that of a run above it."""
    at: RunRow | None = row
    while at is not None:
        if rows := tables.events.of_run(at.run_id):
            return [event for row in rows for event in decoded(row)]
        at = tables.runs.get(at.parent_run_id) if at.parent_run_id is not None else None
    return []


@dataclass(slots=True)
class _OpenStep:
    """A step that has emitted text and has not ended."""

    event: dict[str, Any]  #: its first event
    pieces: list[str] = field(default_factory=list)


class PartialText:
    """The text that was emitted and is not part of a checkpoint.

    Parameters:
        events: the events of the stream.
        parts: the checkpoints; each has the number of events at that time.
    """

    def __init__(self, events: Iterable[StoredEvent], parts: Iterable[Part]) -> None:
        self._events, self._parts = list(events), list(parts)

    def put_into(self, output: Any) -> None:
        """Add the text to the output of a run that ends without its process."""
        if isinstance(output, RunOutput):
            self._into_agent(output)
        elif isinstance(output, WorkflowRunOutput):
            self._into_workflow(output)

    # -- an agent: its last message

    def _into_agent(self, output: RunOutput) -> None:
        since = max((position.get("events", 0) for _, _, position in self._parts), default=0)
        pieces = [
            data["content"]
            for number, data in self._events
            if number >= since and data["event"] == "RunContent" and data.get("run_id") == output.run_id
        ]
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        if text:
            output.messages = [*(output.messages or []), Message("assistant", text, cancelled=True)]

    # -- a workflow: its open steps

    def _into_workflow(self, output: WorkflowRunOutput) -> None:
        by_step = self._text_by_step(output.run_id)
        texts = {step_id: "".join(one.pieces) for step_id, one in by_step.items()}
        known = set(_fill(output.step_results, texts))
        for step_id, one in by_step.items():
            if step_id not in known and one.event.get("parent_step_id") is None:
                output.step_results.append(_interrupted(one.event, texts[step_id]))
        if len(texts) > 1:
            output.content = joined((one.event.get("step_name"), texts[step_id]) for step_id, one in by_step.items())
        elif texts:
            output.content = next(iter(texts.values()))

    def _text_by_step(self, run_id: str | None) -> dict[str, _OpenStep]:
        """Return the text of each step of this workflow since the last end of the step."""
        since = {value.step_id: position.get("events", 0) for kind, value, position in self._parts if kind == "step"}
        by_step: dict[str, _OpenStep] = {}
        for number, data in self._events:
            step_id = data.get("step_id")
            if step_id is None or number < since.get(step_id, 0):
                continue
            own = data.get("run_id") == run_id
            if own and data["event"] == "StepProgress":
                by_step.pop(step_id, None)  # it has started again
            elif (own or data.get("parent_run_id") == run_id) and (text := _text(data)):
                by_step.setdefault(step_id, _OpenStep(data)).pieces.append(text)
        return by_step


def _text(data: dict[str, Any]) -> str:
    if data["event"] == "RunContent":
        return content_text(data.get("content"))
    if is_content_delta(data):
        made = data.get("step_output")
        return content_text(made.get("content") if isinstance(made, dict) else made)
    return ""


def _fill(steps: Iterable[Any], texts: dict[str, str]) -> Iterable[str]:
    """Give their text to those of these steps that have not ended; yield their ids."""
    for step in steps:
        if not isinstance(step, StepOutput):
            continue
        if not step.finished and step.step_id in texts and step.error is None:
            step.content, step.cancelled = texts[step.step_id], True
            yield step.step_id
        yield from _fill(step.steps or (), texts)


def _interrupted(event: dict[str, Any], text: str) -> StepOutput:
    return StepOutput(
        step_name=event.get("step_name"),
        step_id=event.get("step_id"),
        step_type=StepType.FUNCTION.value,
        executor_type="function",
        executor_name=event.get("step_name"),
        content=text,
        success=False,
        cancelled=True,
    )
