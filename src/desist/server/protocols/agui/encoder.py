"""Converts the events of a run to those of AG-UI: each becomes none, one or several.

Pure: events in, bytes out. The protocol's rules for a stream are kept by `_OpenItems`: every item that was started ends
before the run ends, ids are unique, and two open steps have different names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from desist.run.events.base import BaseRunOutputEvent, CustomFields, content_text
from desist.run.events.workflow_base import STEP_COMPLETED, STEP_STARTED
from desist.run.records.json_values import to_json_line, to_json_value
from desist.run.records.message import CANCELLED_RESULT
from desist.server.protocols.text_parts import Key, content_delta, ends_text, key_of
from desist.server.stack_redaction import without_stacks

__all__ = ["PROTOCOL", "AGUIEncoder"]

PROTOCOL = "1.0"

AGUIEvent = dict[str, Any]

_STEP_ENDS = STEP_COMPLETED | {"StepCancelled", "StepError"}
#: AG-UI's name of each token count -> our name.
_COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cache_read_tokens",
    "cacheWriteInputTokens": "cache_write_tokens",
}
_TOOL_ENDS = frozenset({"ToolCallCompleted", "ToolCallError", "ToolCallCancelled"})


class _OpenItems:
    """The started items that have not ended: key -> the events that end the item. Innermost items end first."""

    def __init__(self) -> None:
        self._ends: dict[Key, list[AGUIEvent]] = {}
        self._ids: set[str] = set()
        self._steps: dict[Key, str] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def begin(self, key: Key, *ends: AGUIEvent) -> None:
        """Add an item with the events that end it."""
        self._ends[key] = list(ends)

    def end(self, *keys: Key) -> Iterator[AGUIEvent]:
        """Yield the end events of those items that are open."""
        for key in keys:
            self._steps.pop(key, None)
            yield from self._ends.pop(key, ())

    def end_run(self, run_id: str | None) -> Iterator[AGUIEvent]:
        """Yield the end events of all items of a run; None: of all items."""
        yield from self.end(*[key for key in reversed(self._ends) if run_id in (None, key[1])])

    def new_id(self, base: str) -> str:
        """Return an id that was not used before."""
        number, found = 1, base
        while found in self._ids:
            number, found = number + 1, f"{base}-{number + 1}"
        self._ids.add(found)
        return found

    def step_name(self, key: Key, base: str) -> str:
        """Return a name that no open step has."""
        number, found = 1, base
        while found in self._steps.values():
            number, found = number + 1, f"{base} ({number + 1})"
        self._steps[key] = found
        return found

    def message_of(self, key: Key) -> str:
        """Return the id of the open message of a key."""
        return str(self._ends[key][0]["messageId"])


class AGUIEncoder:
    """Encodes one stream, from the beginning of a run.

    Parameters:
        run_id: the run whose end ends the stream.
        thread_id: the run's session.
    """

    def __init__(self, run_id: str, thread_id: str) -> None:
        self._run = {"threadId": thread_id, "runId": run_id}
        self._open = _OpenItems()
        self._used: dict[tuple[str | None, str | None], Counter[str]] = {}  #: by provider and model
        self._begun = self._ended = False

    def __call__(self, event: BaseRunOutputEvent) -> bytes:
        """Return the frames for an event."""
        return _frames(self._encode(event))

    def error_frame(self, error: Exception) -> bytes:
        """Return the frames that end a stream after an error."""
        return _frames(self._end({"type": "RUN_ERROR", "message": str(error)}))

    def _encode(self, event: Any) -> Iterator[AGUIEvent]:
        if self._ended:
            return
        if not self._begun:
            self._begun = True
            yield {"type": "RUN_STARTED", **self._run, "protocolVersion": PROTOCOL}
        name = event.event
        if name == "ModelRequestCompleted":
            self._count(event)
        if event.is_terminal:
            yield from self._end_of_run(event)
        elif (piece := content_delta(event)) is not None:
            yield from self._text(*piece)
        elif name == "StepOutput":
            yield from self._step_output(event)
        elif name == "ReasoningContentDelta":
            yield from self._reasoning(event)
        elif name == "ToolCallStarted":
            yield from self._tool(event)
        elif name in _TOOL_ENDS:
            yield from self._result(event)
        elif (key := ends_text(event)) is not None:
            yield from self._open.end(("reasoning", event.run_id), key)
        elif name in STEP_STARTED:
            yield self._step(event)
        elif name in _STEP_ENDS:
            yield from self._open.end(key_of("text", event), key_of("step", event))
        elif isinstance(event, CustomFields):
            yield {"type": "CUSTOM", "name": name, "value": to_json_value(event)}

    # -- text

    def _text(self, key: Key, who: str | None, text: str) -> Iterator[AGUIEvent]:
        if not text:
            return
        if key not in self._open:
            yield from self._open.end(("reasoning", key[1]))
            message = {"messageId": self._open.new_id(f"{key[1]}:text")}
            self._open.begin(key, {"type": "TEXT_MESSAGE_END", **message})
            named = {"name": who} if who else {}
            yield {"type": "TEXT_MESSAGE_START", **message, "role": "assistant", **named}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._open.message_of(key), "delta": text}

    def _step_output(self, event: Any) -> Iterator[AGUIEvent]:
        """Encode the output of a function step, unless its pieces were encoded before."""
        key = key_of("text", event)
        if key not in self._open:
            yield from self._text(key, event.step_name, content_text(event.content))
        yield from self._open.end(key)

    def _reasoning(self, event: Any) -> Iterator[AGUIEvent]:
        key = ("reasoning", event.run_id)
        if not event.reasoning_content:
            return
        if key not in self._open:
            message = {"messageId": self._open.new_id(f"{event.run_id}:reasoning")}
            ends = ({"type": kind, **message} for kind in ("REASONING_MESSAGE_END", "REASONING_END"))
            self._open.begin(key, *ends)
            yield {"type": "REASONING_START", **message}
            yield {"type": "REASONING_MESSAGE_START", **message, "role": "reasoning"}
        message_id = self._open.message_of(key)
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": message_id, "delta": event.reasoning_content}

    # -- tools and steps

    def _tool(self, event: Any) -> Iterator[AGUIEvent]:
        """Encode the start of a tool call. The arguments are complete; the item stays open until the result."""
        tool = event.tool
        call = {"toolCallId": self._open.new_id(tool.tool_call_id or f"{event.run_id}:call")}
        message = self._open.new_id(f"{call['toolCallId']}:result")
        result = {"type": "TOOL_CALL_RESULT", "messageId": message, **call, "content": CANCELLED_RESULT, "role": "tool"}
        self._open.begin(_of_tool(event), result)
        yield from self._open.end(("text", event.run_id))
        yield {"type": "TOOL_CALL_START", **call, "toolCallName": tool.tool_name}
        yield {"type": "TOOL_CALL_ARGS", **call, "delta": to_json_line(to_json_value(tool.tool_args or {})).decode()}
        yield {"type": "TOOL_CALL_END", **call}

    def _result(self, event: Any) -> Iterator[AGUIEvent]:
        for result in self._open.end(_of_tool(event)):
            yield {**result, "content": event.tool.result or ""}

    def _step(self, event: Any) -> AGUIEvent:
        key = key_of("step", event)
        name = {"stepName": self._open.step_name(key, event.step_name or "step")}
        self._open.begin(key, {"type": "STEP_FINISHED", **name})
        return {"type": "STEP_STARTED", **name}

    # -- the end of a run

    def _end_of_run(self, event: Any) -> Iterator[AGUIEvent]:
        """Encode the end of a run of the tree. The end of the stream's own run ends everything."""
        if event.run_id != self._run["runId"]:
            yield from self._open.end_run(event.run_id)
        elif event.is_error:
            message = getattr(event, "error", None) or content_text(event.content)
            code = {"code": event.error_type} if event.error_type else {}
            yield from self._end({"type": "RUN_ERROR", "message": message, **code})
        elif event.is_cancelled:
            record = {"content": event.content, **(to_json_value(event.cancel) if event.cancel is not None else {})}
            outcome = {"outcome": {"type": "cancelled"}, "metadata": {"desist": to_json_value(record)}}
            yield from self._end({"type": "RUN_FINISHED", **self._run, **outcome})
        else:
            outcome = {"outcome": {"type": "success"}, "result": to_json_value(event.content)}
            yield from self._end({"type": "RUN_FINISHED", **self._run, **outcome})

    def _end(self, last: AGUIEvent) -> Iterator[AGUIEvent]:
        self._ended = True
        yield from self._open.end_run(None)
        usage = [
            {name: value for name, value in (("provider", provider), ("model", model)) if value} | counts
            for (provider, model), counts in self._used.items()
        ]
        yield last | ({"usage": usage} if usage else {})

    def _count(self, event: Any) -> None:
        used = self._used.setdefault((event.model_provider, event.model), Counter())
        used.update({theirs: getattr(event, ours) or 0 for theirs, ours in _COUNTS.items()})


def _of_tool(event: Any) -> Key:
    return ("tool", event.run_id, event.tool.tool_call_id)


def _frames(events: Iterator[AGUIEvent]) -> bytes:
    return b"".join([b"data: %b\n\n" % without_stacks(to_json_line(one)) for one in events])
