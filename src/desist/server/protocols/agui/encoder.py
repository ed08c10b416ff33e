"""A run as AG-UI tells it: each event of ours becomes none, one or some of that protocol's.

Pure: events in, bytes out. Its clients hold a stream to rules, which stand here in one place, `_OpenItems`: what was
begun is ended before the run is, an id is taken once, two steps that are open at once have different names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from desist.run.events.base import BaseRunOutputEvent, CustomFields, content_text
from desist.run.records.json_values import to_json_line, to_json_value
from desist.run.records.message import CANCELLED_RESULT
from desist.server.protocols.text_parts import Key, content_delta, ends_text, key_of
from desist.server.stack_redaction import without_stacks

__all__ = ["PROTOCOL", "AGUIEncoder"]

PROTOCOL = "1.0"

Told = dict[str, Any]

_STEP_BEGINS = frozenset({"StepStarted", *(f"{kind}ExecutionStarted" for kind in ("Loop", "Parallel", "Condition"))})
_STEP_BEGINS |= {"RouterExecutionStarted", "StepsExecutionStarted"}
_STEP_ENDS = frozenset({"StepCompleted", "StepCancelled", "StepError"})
_STEP_ENDS |= {name.replace("ExecutionStarted", "ExecutionCompleted") for name in _STEP_BEGINS}
#: Counts of tokens, as they are called there and here.
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
    """What was begun and isn't ended: for each thing the events that end it. The innermost is ended first."""

    def __init__(self) -> None:
        self._ends: dict[Key, list[Told]] = {}
        self._ids: set[str] = set()
        self._steps: dict[Key, str] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def begin(self, key: Key, *ends: Told) -> None:
        """Note a thing, and how it ends."""
        self._ends[key] = list(ends)

    def end(self, *keys: Key) -> Iterator[Told]:
        """End these, as far as they are open."""
        for key in keys:
            self._steps.pop(key, None)
            yield from self._ends.pop(key, ())

    def end_run(self, run_id: str | None) -> Iterator[Told]:
        """End all that a run has begun; None: all that is open."""
        yield from self.end(*[key for key in reversed(self._ends) if run_id in (None, key[1])])

    def new_id(self, base: str) -> str:
        """Return an id that nothing had before."""
        number, found = 1, base
        while found in self._ids:
            number, found = number + 1, f"{base}-{number + 1}"
        self._ids.add(found)
        return found

    def step_name(self, key: Key, base: str) -> str:
        """Return a name for a step that no open one has."""
        number, found = 1, base
        while found in self._steps.values():
            number, found = number + 1, f"{base} ({number + 1})"
        self._steps[key] = found
        return found

    def message_of(self, key: Key) -> str:
        """Return the id of the message that is open under a key."""
        return str(self._ends[key][0]["messageId"])


class AGUIEncoder:
    """One stream, told from the run's beginning.

    Parameters:
        run_id: the run that is told; its end ends the stream.
        thread_id: its session.
    """

    def __init__(self, run_id: str, thread_id: str) -> None:
        self._run = {"threadId": thread_id, "runId": run_id}
        self._open = _OpenItems()
        self._used: dict[tuple[str | None, str | None], Counter[str]] = {}  #: by provider and model
        self._begun = self._ended = False

    def __call__(self, event: BaseRunOutputEvent) -> bytes:
        """Return what tells an event."""
        return _frames(self._encode(event))

    def broken(self, error: Exception) -> bytes:
        """Return what ends a stream that can't be told on."""
        return _frames(self._end({"type": "RUN_ERROR", "message": str(error)}))

    def _encode(self, event: Any) -> Iterator[Told]:
        if self._ended:
            return
        if not self._begun:
            self._begun = True
            yield {"type": "RUN_STARTED", **self._run, "protocolVersion": PROTOCOL}
        name = event.event
        if name == "ModelRequestCompleted":
            self._count(event)
        if event.is_terminal:
            yield from self._over(event)
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
        elif name in _STEP_BEGINS:
            yield self._step(event)
        elif name in _STEP_ENDS:
            yield from self._open.end(key_of("text", event), key_of("step", event))
        elif isinstance(event, CustomFields):
            yield {"type": "CUSTOM", "name": name, "value": to_json_value(event)}

    # -- text

    def _text(self, key: Key, who: str | None, text: str) -> Iterator[Told]:
        if not text:
            return
        if key not in self._open:
            yield from self._open.end(("reasoning", key[1]))
            message = {"messageId": self._open.new_id(f"{key[1]}:text")}
            self._open.begin(key, {"type": "TEXT_MESSAGE_END", **message})
            named = {"name": who} if who else {}
            yield {"type": "TEXT_MESSAGE_START", **message, "role": "assistant", **named}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._open.message_of(key), "delta": text}

    def _step_output(self, event: Any) -> Iterator[Told]:
        """A function step has made its output, which is told unless its pieces were."""
        key = key_of("text", event)
        if key not in self._open:
            yield from self._text(key, event.step_name, content_text(event.content))
        yield from self._open.end(key)

    def _reasoning(self, event: Any) -> Iterator[Told]:
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

    def _tool(self, event: Any) -> Iterator[Told]:
        """A call begins: its arguments are known, its result is what is still open of it."""
        tool = event.tool
        call = {"toolCallId": self._open.new_id(tool.tool_call_id or f"{event.run_id}:call")}
        message = self._open.new_id(f"{call['toolCallId']}:result")
        result = {"type": "TOOL_CALL_RESULT", "messageId": message, **call, "content": CANCELLED_RESULT, "role": "tool"}
        self._open.begin(_of_tool(event), result)
        yield from self._open.end(("text", event.run_id))
        yield {"type": "TOOL_CALL_START", **call, "toolCallName": tool.tool_name}
        yield {"type": "TOOL_CALL_ARGS", **call, "delta": to_json_line(to_json_value(tool.tool_args or {})).decode()}
        yield {"type": "TOOL_CALL_END", **call}

    def _result(self, event: Any) -> Iterator[Told]:
        for result in self._open.end(_of_tool(event)):
            yield {**result, "content": event.tool.result or ""}

    def _step(self, event: Any) -> Told:
        key = key_of("step", event)
        name = {"stepName": self._open.step_name(key, event.step_name or "step")}
        self._open.begin(key, {"type": "STEP_FINISHED", **name})
        return {"type": "STEP_STARTED", **name}

    # -- the end

    def _over(self, event: Any) -> Iterator[Told]:
        """A run of the tree has ended; if it is the one that is told, everything has."""
        if event.run_id != self._run["runId"]:
            yield from self._open.end_run(event.run_id)
        elif event.is_error:
            words = getattr(event, "error", None) or content_text(event.content)
            code = {"code": event.error_type} if event.error_type else {}
            yield from self._end({"type": "RUN_ERROR", "message": words, **code})
        elif event.is_cancelled:
            ours = {"content": event.content, **(to_json_value(event.cancel) if event.cancel is not None else {})}
            how = {"outcome": {"type": "cancelled"}, "metadata": {"desist": to_json_value(ours)}}
            yield from self._end({"type": "RUN_FINISHED", **self._run, **how})
        else:
            how = {"outcome": {"type": "success"}, "result": to_json_value(event.content)}
            yield from self._end({"type": "RUN_FINISHED", **self._run, **how})

    def _end(self, last: Told) -> Iterator[Told]:
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


def _frames(events: Iterator[Told]) -> bytes:
    return b"".join([b"data: %b\n\n" % without_stacks(to_json_line(one)) for one in events])
