"""`RunTree`: the state of a run derived from its events: a tree of steps, the text, the last event. No I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from desist.run.events.base import content_text
from desist.run.events.workflow_base import STEP_COMPLETED, STEP_STARTED

__all__ = ["Node", "RunTree"]

#: Characters of text that are kept, more than a screen can show.
KEPT = 20_000

_TOOLS = {"ToolCallStarted": "RUNNING", "ToolCallCompleted": "COMPLETED", "ToolCallError": "ERROR"}
_TOOLS["ToolCallCancelled"] = "CANCELLED"


@dataclass(slots=True)
class Node:
    """A step, a container or a tool call."""

    name: str
    status: str = "RUNNING"
    began_at: float | None = None  #: seconds since the epoch
    seconds: float | None = None
    note: str = ""
    inside: list[Node] = field(default_factory=list)

    @property
    def duration(self) -> float | None:
        """Seconds taken, up to now for a running node."""
        if self.seconds is not None or self.began_at is None or self.status != "RUNNING":
            return self.seconds
        return max(0.0, time.time() - self.began_at)


class RunTree:
    """The state of one run. Pass every event to `take`, in order."""

    def __init__(self) -> None:
        self.steps: list[Node] = []
        self.text = ""
        self.tokens = 0  #: used by the model calls that have ended
        self.last: dict[str, Any] = {}  #: the last event
        self._known: dict[str, Node] = {}
        self._last_speaker: str | None = None  #: the key of the step or run that emitted text last
        self._speakers: set[str] = set()  #: keys of all that have emitted text
        self._unannounced: list[Node] = []  #: the last step, if it emitted no started event

    def take(self, event: Mapping[str, Any]) -> None:
        """Apply one event."""
        self.last = dict(event)
        name = str(event.get("event"))
        if event.get("step_name") and str(event.get("step_id")) not in self._known:
            self._begin(event, announced=name in STEP_STARTED)
        if name in STEP_COMPLETED or name in ("StepError", "StepCancelled"):
            self._end(event, name)
        elif name in _TOOLS:
            self._tool(event, _TOOLS[name])
        elif name in ("RunContent", "RunIntermediateContent"):
            self._add_text(event, event.get("content"))
        elif name == "StepOutput":
            self._step_output(event)
        elif name == "ModelRequestCompleted":
            self.tokens += int(event.get("total_tokens") or 0)

    def open_steps(self) -> list[str]:
        """Return the names of the running steps, the outermost first."""
        return [node.name for node in list(self._known.values()) if node.status == "RUNNING"]

    def _begin(self, event: Mapping[str, Any], *, announced: bool) -> None:
        """Add a step. A run without `stream_events` emits neither a started nor a completed event for it."""
        for node in self._unannounced:
            node.status = "" if node.status == "RUNNING" else node.status
        at = event.get("event_at") or event.get("created_at")
        node = Node(str(event.get("step_name") or "step"), began_at=float(at) if at else None)
        self._known[str(event.get("step_id"))] = node
        self._unannounced = [] if announced else [node]
        above = self._known.get(str(event.get("parent_step_id")))
        (above.inside if above is not None else self.steps).append(node)

    def _end(self, event: Mapping[str, Any], name: str) -> None:
        node = self._known.get(str(event.get("step_id")))
        if node is None:
            return
        result = event.get("step_response") or {}
        node.status = {"StepError": "ERROR", "StepCancelled": "CANCELLED"}.get(name, "COMPLETED")
        if node.status == "COMPLETED" and result.get("success") is False:
            node.status = "CANCELLED" if result.get("cancelled") else "ERROR"
        node.seconds = result.get("duration") if result.get("duration") is not None else node.seconds
        node.note = str(event.get("error") or result.get("error") or "")

    def _tool(self, event: Mapping[str, Any], status: str) -> None:
        call = event.get("tool") or {}
        key = f"tool {call.get('tool_call_id')}"
        node = self._known.get(key)
        if node is None:
            at = event.get("event_at") or event.get("created_at")
            node = self._known[key] = Node(f"{call.get('tool_name')}()", began_at=float(at) if at else None)
            above = self._known.get(str(event.get("step_id")))
            (above.inside if above is not None else self.steps).append(node)
        node.status, node.seconds = status, call.get("duration")
        node.note = "abandoned" if call.get("abandoned") else str(event.get("error") or "")

    def _step_output(self, event: Mapping[str, Any]) -> None:
        """Apply a piece of a function's output; the last event repeats the whole output."""
        output = event.get("step_output") or {}
        node = self._known.get(str(event.get("step_id")))
        if "step_name" in output and node in self._unannounced:
            self._end({**event, "step_response": output}, "StepCompleted")
        if "step_name" not in output or str(event.get("step_id")) not in self._speakers:
            self._add_text(event, output.get("content"))

    def _add_text(self, event: Mapping[str, Any], content: Any) -> None:
        if content is None:
            return
        key = str(event.get("step_id") or event.get("run_id"))
        if self._last_speaker not in (None, key) and self.text:
            self.text += "\n\n"
        self._last_speaker = key
        self._speakers.add(key)
        self.text = (self.text + content_text(content))[-KEPT:]
