"""One request to the model and its answer, chunk by chunk: the hot path of every run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from desist.agent.conversation import Conversation
from desist.cancel.reason import CancelReason, Source
from desist.models.base import Model, ModelRequest
from desist.models.finish_reason import normalized_finish_reason
from desist.models.response import ModelResponse, ToolCallDelta
from desist.run.agent import (
    ModelRequestCompletedEvent,
    ModelRequestStartedEvent,
    ReasoningContentDeltaEvent,
    RunContentEvent,
)
from desist.run.records.message import Message, ToolCall
from desist.run.records.metrics import Usage
from desist.run.records.tool_results import free_id
from desist.run.telemetry.gate import model_span
from desist.runtime.timer_thread import timers

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["ModelTurn"]


class ModelTurn:
    """One request. Chunks are recorded as they arrive, so that a cancel finds the partial answer.

    Parameters:
        on_started: called when the request is announced, with the lock of the tree held.
        emits_text: whether the run has a reader of text; else chunks are only recorded.
        stall_timeout: seconds without a chunk after which the run is cancelled.
    """

    def __init__(
        self,
        model: Model,
        run: Run,
        conversation: Conversation,
        *,
        on_started: Callable[[ModelTurn], object],
        emits_text: bool,
        stall_timeout: float | None,
    ) -> None:
        self.model, self.run, self.conversation = model, run, conversation
        self._on_started, self._emits_text, self._stall_timeout = on_started, emits_text, stall_timeout
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.provider_data: dict[str, Any] | None = None
        self._requested_at = self._last_chunk_at = time.monotonic()
        self._first: float | None = None

    async def request(self, request: ModelRequest) -> Message:
        """Send the request, emit the chunks, and return the whole answer."""
        model = self.model
        known: dict[str, Any] = {"model": model.id, "model_provider": model.provider}
        await self.run.confirm_ownership()
        for meter in self.run.limits.meters:
            meter.model_call()
        self.run.emit(ModelRequestStartedEvent(**self.conversation.common, **known), lambda: self._on_started(self))
        watch = _StallWatch(self, self._stall_timeout)
        with model_span(self.run.spans, model.id, model.provider) as span:
            try:
                async with aclosing(model.stream(request)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        self._add(chunk)
            finally:
                watch.end()
                span.used(self.usage or Usage(), self._first)
        usage = self.usage or Usage()
        self.run.emit(
            ModelRequestCompletedEvent(
                **self.conversation.common,
                **known,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                time_to_first_token=self._first,
                finish_reason=self.finish_reason,
            ),
            lambda: self.conversation.count(usage, self._first),
        )
        for meter in self.run.limits.meters:
            meter.used(model.id, usage, len(self.text))
        return self.message()

    def message(self, *, cancelled: bool = False) -> Message:
        """Return what has arrived so far as one message. Call ids that a server used twice are replaced."""
        calls = [call for _, call in sorted(self.calls.items())]
        taken = {call.id for message in self.conversation.model_messages() for call in message.tool_calls or ()}
        for call in calls:
            call.id = free_id(call.id, taken)
        return Message(
            "assistant",
            "".join(self.text) or None,
            tool_calls=calls or None,
            reasoning_content="".join(self.reasoning) or None,
            provider_data=None if cancelled else self.provider_data,
            finish_reason=None if cancelled else self.finish_reason,
            cancelled=cancelled,
        )

    def _add(self, chunk: ModelResponse) -> None:
        self._last_chunk_at = time.monotonic()
        if self._first is None:
            self._first = self._last_chunk_at - self._requested_at
        if chunk.reasoning_content:
            self._add_reasoning(chunk.reasoning_content)
        text = chunk.content
        if text:
            if self._emits_text:
                self.run.emit(RunContentEvent(**self.conversation.common, content=text), lambda: self.text.append(text))
            else:
                self.run.commit(lambda: self.text.append(text))
            for meter in self.run.limits.meters:
                meter.count_tokens()
        if chunk.tool_calls:
            deltas = chunk.tool_calls
            self.run.commit(lambda: self._add_tool_calls(deltas))
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish_reason is not None:
            self.finish_reason = normalized_finish_reason(chunk.finish_reason)
        if chunk.provider_data is not None:
            self.provider_data = chunk.provider_data

    def _add_reasoning(self, text: str) -> None:
        event = ReasoningContentDeltaEvent(**self.conversation.common, reasoning_content=text)
        self.run.emit(event, lambda: self.reasoning.append(text))

    def _add_tool_calls(self, deltas: list[ToolCallDelta]) -> None:
        for delta in deltas:
            call = self.calls.get(delta.index)
            if call is None:
                call = self.calls[delta.index] = ToolCall(
                    id=f"call_{len(self.conversation.messages)}_{delta.index}", name=""
                )
            call.id = delta.id or call.id
            call.name += delta.name or ""
            call.arguments += delta.arguments

    def on_stalled(self) -> None:
        """Cancel the run. Called in the timer thread."""
        text = f"the model sent nothing for {self._stall_timeout:g} s"
        self.run.cancel(CancelReason(source=Source.stall, text=text, by="desist"), reach="run")

    def describe_wait(self) -> str:
        """Return a description of what the turn waits for, and for how long."""
        what = "first token" if self._first is None else "next token"
        return f"model {self.model.id}: {what} for {time.monotonic() - self._last_chunk_at:.1f} s"

    @property
    def last_chunk_at(self) -> float:
        """The time of the last chunk, in seconds of `time.monotonic`."""
        return self._last_chunk_at


class _StallWatch:
    """Checks in the timer thread whether chunks still come. One timer for each timeout, not for each chunk."""

    def __init__(self, turn: ModelTurn, limit: float | None) -> None:
        self._turn, self._limit = turn, limit
        self._ended = False
        if limit is not None:
            self._timer = timers.call_at(turn.last_chunk_at + limit, self._check)

    def _check(self) -> None:
        assert self._limit is not None
        if self._ended:
            return
        deadline = self._turn.last_chunk_at + self._limit
        if deadline <= time.monotonic():
            self._turn.on_stalled()
        else:
            self._timer = timers.call_at(deadline, self._check)

    def end(self) -> None:
        """Stop checking. A check that runs at this moment may still cancel the run."""
        self._ended = True
        if self._limit is not None:
            self._timer.cancel()
