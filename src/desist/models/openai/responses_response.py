"""Reads responses of the Responses API.

`ResponsesParser` is the `ResponseParser` of `desist.models.http.response_reader` for them. Must know nothing of
connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from desist.exceptions import ModelResponseError
from desist.models.http.answer import Answer, joined
from desist.models.http.decoder import Decoder
from desist.models.http.reported_error import error_in, reported_error
from desist.models.http.text import truncate
from desist.models.openai.responses_request import PROVIDER
from desist.models.response import ModelResponse

__all__ = ["ResponsesParser"]


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    status: str | None = None
    arguments: Any = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Answer(msgspec.Struct):
    output: list[_Item] | None = None
    usage: Any = None
    error: Any = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _Event(_Answer):
    """A stream event or, with the fields of `_Answer`, a whole response."""

    type: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    delta: Any = None
    text: str | None = None
    refusal: str | None = None
    name: str | None = None
    arguments: Any = None
    item: _Item | None = None
    part: _Part | None = None
    response: _Answer | None = None


_decode = Decoder(_Event, "an event of the Responses API")


class ResponsesParser:
    """Converts events to pieces, and collects the reasoning to send back.

    Some servers send the text or the calls only when they are complete, or only with the last event: what arrived in
    pieces is not taken again from there.
    """

    __slots__ = ("_call_ids", "_place", "_reasoning", "_said", "_thought", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._said: set[Any] = set()  # items, and their parts, whose text has arrived
        self._place: Any = None  # of the latest text
        self._thought: set[Any] = set()  # items whose reasoning has arrived
        self._call_ids: dict[str, str] = {}  # of the calls, by the ids of their items
        self._reasoning: dict[str, dict[str, Any]] = {}

    def take(self, event: bytes) -> ModelResponse | None:
        """Return the piece in a stream event, or None."""
        decoded = _decode(event)
        handle = _HANDLERS.get(decoded.type or "")
        if handle is not None:
            return handle(self, decoded)
        self._take_usage(decoded)
        if decoded.type is None and decoded.output is not None:
            return self._ended(decoded)
        if decoded.type == "response.error" or not (decoded.type or "").startswith("response."):
            self._refuse_error(event)
        return None

    def whole(self, payload: bytes) -> Iterator[ModelResponse | None]:
        """Yield the pieces of a whole response."""
        decoded = _decode(payload)
        answer = decoded.response or decoded
        if answer.output is None:
            self._refuse_error(payload)
        if answer.output is None and answer.status is None:
            raise ModelResponseError(f"the server's response has no output: {truncate(payload)}")
        yield self._ended(decoded)

    def provider_data(self) -> dict[str, Any] | None:
        """Return the reasoning to send with the next request."""
        return {PROVIDER: list(self._reasoning.values())} if self._reasoning else None

    def _take_usage(self, event: _Event) -> None:
        self.answer.usage.take(event.usage)
        if event.response is not None:
            self.answer.usage.take(event.response.usage)

    def _refuse_error(self, payload: bytes) -> None:
        error = error_in(_decode.document(payload))
        if error is not None:
            raise error

    # -- events

    def _text(self, event: _Event) -> ModelResponse | None:
        text = event.delta
        if not (text and isinstance(text, str)):
            return None
        place = (event.output_index, event.item_id, event.content_index)
        if place != self._place:  # not for each piece: this is the hot path
            self._place = place
            item = _item_key(event)
            self._said |= {item, (item, event.content_index)}
        return self.answer.text(text)

    def _refusal(self, event: _Event) -> ModelResponse | None:
        self.answer.refusal("")
        return self._text(event)

    def _part_done(self, event: _Event) -> ModelResponse | None:
        is_thought = event.part is not None and (event.part.type or "").startswith(("reasoning", "summary"))
        return self._reasoning_done(event) if is_thought else self._text_done(event)

    def _text_done(self, event: _Event) -> ModelResponse | None:
        item = _item_key(event)
        part = (item, event.content_index)
        if part in self._said:
            return None
        self._said |= {item, part}
        return self._parts([event.part or _Part(text=event.text, refusal=event.refusal)])

    def _reasoning_delta(self, event: _Event) -> ModelResponse | None:
        delta = event.delta.get("text") if isinstance(event.delta, dict) else event.delta
        if not (delta and isinstance(delta, str)):
            return None
        self._thought |= _reasoning_keys(event)
        return self.answer.thought(delta)

    def _reasoning_done(self, event: _Event) -> ModelResponse | None:
        text, keys = (event.part or event).text, _reasoning_keys(event)
        if not text or keys <= self._thought:
            return None
        self._thought |= keys
        return self.answer.thought(text)

    def _reasoning_part(self, event: _Event) -> ModelResponse | None:
        return self.answer.thought("\n\n") if event.summary_index and self._thought else None

    def _added(self, event: _Event) -> ModelResponse | None:
        item = event.item
        if item is None or item.type != "function_call":
            return None
        given = {"name": item.name, "arguments": item.arguments}
        self.answer.calls.begin(index=event.output_index, id=self._call_id(item), **given)
        return ModelResponse()  # tells that something arrived

    def _arguments(self, event: _Event) -> ModelResponse:
        call_id = self._call_ids.get(event.item_id or "")
        self.answer.calls.add(index=event.output_index, id=call_id, name=None, arguments=event.delta)
        return ModelResponse()

    def _arguments_done(self, event: _Event) -> None:
        call_id = self._call_ids.get(event.item_id or "")
        given = {"name": event.name, "arguments": event.arguments}
        self.answer.calls.finish(index=event.output_index, id=call_id, closes=False, **given)

    def _item_done(self, event: _Event) -> ModelResponse | None:
        return None if event.item is None else self._item(event.output_index, event.item)

    def _ended(self, event: _Event) -> ModelResponse | None:
        """Take the whole response, which repeats the items."""
        self.answer.done = True
        self._take_usage(event)
        answer = event.response or event
        piece = None
        if not self._said:
            messages = [item for item in answer.output or () if item.type == "message"]
            piece = self._parts([part for item in messages for part in item.content or ()])
        unheard = not self._thought
        for item in answer.output or ():
            if item.type == "reasoning":
                self._seal(item)
                piece = joined(piece, self._reasoning_text(None, item) if unheard else None)
        calls = [item for item in answer.output or () if item.type == "function_call"]
        if not self.answer.calls.all_whole(len(calls)):
            for item in calls:
                self._item(None, item)
        self._end(answer, (event.type or "").rpartition(".")[2])
        return piece

    def _end(self, answer: _Answer, status: str) -> None:
        status = answer.status or status
        error = error_in({"error": answer.error})
        if error is not None or status in ("failed", "cancelled"):
            raise error or reported_error(f"the response ended with status {status!r}")
        if status == "incomplete":
            details = answer.incomplete_details
            self.answer.ended((details and details.reason) or "incomplete")
        else:
            self.answer.ended("tool_calls" if self.answer.calls.calls() else "stop")

    # -- what complete items say, as far as it hasn't arrived in pieces

    def _item(self, index: int | None, item: _Item) -> ModelResponse | None:
        if item.type == "function_call":
            if item.status == "incomplete":
                self.answer.ended(item.status)
            given = {"name": item.name, "arguments": item.arguments}
            self.answer.calls.finish(index=index, id=self._call_id(item), **given)
        elif item.type == "reasoning":
            self._seal(item)
            return self._reasoning_text(index, item)
        elif item.type == "message" and _is_new(self._said, index, item):
            return self._parts(item.content or [])
        return None

    def _parts(self, parts: list[_Part]) -> ModelResponse | None:
        text = "".join(part.text or "" for part in parts)
        refusal = "".join(part.refusal or "" for part in parts)
        piece = self.answer.text(text) if text else None
        return joined(piece, self.answer.refusal(refusal)) if refusal else piece

    def _reasoning_text(self, index: int | None, item: _Item) -> ModelResponse | None:
        thought = "\n\n".join(part.text for part in item.summary or item.content or () if part.text)
        return self.answer.thought(thought) if _is_new(self._thought, index, item) and thought else None

    def _seal(self, item: _Item) -> None:
        """Keep the encrypted reasoning of an item for the next request."""
        if item.encrypted_content:
            summary = [{"type": "summary_text", "text": part.text or ""} for part in item.summary or ()]
            known = {} if item.id is None else {"id": item.id}
            sealed = {"type": "reasoning", **known, "summary": summary, "encrypted_content": item.encrypted_content}
            self._reasoning[item.id or item.encrypted_content] = sealed

    def _call_id(self, item: _Item) -> str | None:
        """Return the id of a call: that of its item if it has no other."""
        call_id = item.call_id or self._call_ids.get(item.id or "") or item.id
        if item.id and call_id:
            self._call_ids[item.id] = call_id
        return call_id


def _item_key(event: _Event) -> int | str | None:
    """Return what tells the item of an event from others."""
    return event.item_id if event.output_index is None else event.output_index


def _reasoning_keys(event: _Event) -> set[Any]:
    """Return what tells the item of some reasoning, and its part, from others."""
    item = _item_key(event)
    return {item, (item, event.summary_index, event.content_index)}


def _is_new(seen: set[Any], index: int | None, item: _Item) -> bool:
    """Return whether nothing of an item is in `seen`, and add it."""
    keys = {key for key in (index, item.id) if key is not None}
    known = bool(keys & seen) if keys else None in seen
    seen |= keys
    return not known


_HANDLERS = {
    "response.output_text.delta": ResponsesParser._text,
    "response.refusal.delta": ResponsesParser._refusal,
    "response.output_text.done": ResponsesParser._text_done,
    "response.refusal.done": ResponsesParser._text_done,
    "response.content_part.done": ResponsesParser._part_done,
    "response.reasoning_summary_text.delta": ResponsesParser._reasoning_delta,
    "response.reasoning_text.delta": ResponsesParser._reasoning_delta,
    "response.reasoning.delta": ResponsesParser._reasoning_delta,
    "response.reasoning_summary.delta": ResponsesParser._reasoning_delta,
    "response.reasoning_summary_text.done": ResponsesParser._reasoning_done,
    "response.reasoning_text.done": ResponsesParser._reasoning_done,
    "response.reasoning_summary_part.added": ResponsesParser._reasoning_part,
    "response.reasoning_summary_part.done": ResponsesParser._reasoning_done,
    "response.output_item.added": ResponsesParser._added,
    "response.function_call_arguments.delta": ResponsesParser._arguments,
    "response.function_call_arguments.done": ResponsesParser._arguments_done,
    "response.output_item.done": ResponsesParser._item_done,
    "response.completed": ResponsesParser._ended,
    "response.done": ResponsesParser._ended,
    "response.incomplete": ResponsesParser._ended,
    "response.failed": ResponsesParser._ended,
    "response.cancelled": ResponsesParser._ended,
}
