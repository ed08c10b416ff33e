"""One question to the model and its answer, piece by piece: the hot path of every run."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import CancelReason, Source
from desist.models.base import ModelRequest
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
from desist.runtime.timer_thread import reaper

if TYPE_CHECKING:
    from desist.agent.run_body import AgentRunBody
    from desist.run.execution.run import Run

__all__ = ["ModelTurn"]


class ModelTurn:
    """Asks once. What has arrived is kept as it arrives, so that a cancel finds it."""

    def __init__(self, body: AgentRunBody, run: Run) -> None:
        self.body, self.run = body, run
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.usage: Usage | None = None
        self.provider_data: dict[str, Any] | None = None
        self._asked_at = self._heard_at = time.monotonic()
        self._first: float | None = None

    async def request(self, request: ModelRequest) -> Message:
        """Send the request, pass the pieces on, and return the whole answer."""
        model = self.body.model
        known: dict[str, Any] = {"model": model.id, "model_provider": model.provider}
        await self.run.confirm_ownership()
        for spending in self.run.spending:
            spending.model_call()
        self.run.emit(ModelRequestStartedEvent(**self.body.common, **known), self._begin)
        watch = _StallWatch(self, self.body.stall_timeout)
        with model_span(self.run.spans, model.id, model.provider) as span:
            try:
                async with aclosing(model.stream(request)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        self._take(piece)
            finally:
                watch.end()
                span.used(self.usage or Usage(), self._first)
        usage = self.usage or Usage()
        self.run.emit(
            ModelRequestCompletedEvent(
                **self.body.common,
                **known,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                time_to_first_token=self._first,
            ),
            lambda: self.body.count(usage, self._first),
        )
        for spending in self.run.spending:
            spending.used(model.id, usage, len(self.text))
        return self.message()

    def _begin(self) -> None:
        self.body.turn = self

    def message(self, *, cancelled: bool = False) -> Message:
        """Return what has arrived so far as one message. Some servers use an id twice: here it names one call."""
        calls = [call for _, call in sorted(self.calls.items())]
        taken = {call.id for message in self.body.model_messages() for call in message.tool_calls or ()}
        for call in calls:
            call.id = free_id(call.id, taken)
        return Message(
            "assistant",
            "".join(self.text) or None,
            tool_calls=calls or None,
            reasoning_content="".join(self.reasoning) or None,
            provider_data=None if cancelled else self.provider_data,
            cancelled=cancelled,
        )

    def _take(self, piece: ModelResponse) -> None:
        self._heard_at = time.monotonic()
        if self._first is None:
            self._first = self._heard_at - self._asked_at
        text = piece.content
        if text:
            if self.body.has_reader:
                self.run.emit(RunContentEvent(**self.body.common, content=text), lambda: self.text.append(text))
            else:
                self.run.commit(lambda: self.text.append(text))
            for spending in self.run.spending:
                spending.count_tokens()
        if piece.reasoning_content:
            self._take_reasoning(piece.reasoning_content)
        if piece.tool_calls:
            deltas = piece.tool_calls
            self.run.commit(lambda: self._take_calls(deltas))
        if piece.usage is not None:
            self.usage = piece.usage
        if piece.provider_data is not None:
            self.provider_data = piece.provider_data

    def _take_reasoning(self, text: str) -> None:
        event = ReasoningContentDeltaEvent(**self.body.common, reasoning_content=text)
        self.run.emit(event, lambda: self.reasoning.append(text))

    def _take_calls(self, deltas: list[ToolCallDelta]) -> None:
        for delta in deltas:
            call = self.calls.get(delta.index)
            if call is None:
                call = self.calls[delta.index] = ToolCall(id=f"call_{len(self.body.messages)}_{delta.index}", name="")
            call.id = delta.id or call.id
            call.name += delta.name or ""
            call.arguments += delta.arguments

    def on_stalled(self) -> None:
        """No token for too long: cancel the run."""
        limit = self.body.stall_timeout
        text = f"the model sent nothing for {limit:g} s"
        self.run.cancel(CancelReason(source=Source.stall, text=text, by="desist"), reach="run")

    def describe_wait(self) -> str:
        """Return what it waits for, and for how long."""
        what = "first token" if self._first is None else "next token"
        return f"model {self.body.model.id}: {what} for {time.monotonic() - self._heard_at:.1f} s"

    @property
    def last_chunk_at(self) -> float:
        """When the last piece came, in seconds of `time.monotonic`."""
        return self._heard_at


class _StallWatch:
    """Looks, in the reaper's thread, whether pieces still come. A timer a stall, not a timer a piece."""

    def __init__(self, turn: ModelTurn, limit: float | None) -> None:
        self._turn, self._limit = turn, limit
        self._over = False
        if limit is not None:
            self._timer = reaper.call_at(turn.last_chunk_at + limit, self._check)

    def _check(self) -> None:
        assert self._limit is not None
        if self._over:
            return
        due = self._turn.last_chunk_at + self._limit
        if due <= time.monotonic():
            self._turn.on_stalled()
        else:
            self._timer = reaper.call_at(due, self._check)

    def end(self) -> None:
        """Look no more."""
        self._over = True
        if self._limit is not None:
            self._timer.cancel()
