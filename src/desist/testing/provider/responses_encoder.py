"""Encode an answer of the Responses API. Called by `desist.testing.provider.api`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from desist.testing.provider.http11 import named_event
from desist.testing.provider.replies import Call, Reply, split_words

__all__ = ["ResponsesEncoder"]

_TEXT = (
    b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", '
    b'"sequence_number": %d, %b, "delta": %b}\n\n'
)


class ResponsesEncoder:
    """Encodes one answer as a response, with numbered events."""

    def __init__(self, index: int, request: Mapping[str, Any], reply: Reply) -> None:
        self._reply = reply
        self._base = {"id": f"resp_{index}", "object": "response", "created_at": 0, "model": request.get("model", "")}
        self._prompt_words = len(str(request.get("instructions") or "").split()) + _count_words(request.get("input"))
        self._number = 0
        self._items: list[dict[str, Any]] = []  # finished

    def first(self) -> bytes:
        return self._event("response.created", response=self._response("in_progress"))

    def events(self) -> Iterator[bytes]:
        """Yield the events of each token; an item's added and done events come with its first and last token."""
        reply = self._reply
        if reply.reasoning:
            item = _reasoning_item(reply.reasoning)
            yield from self._item({**item, "summary": []}, self._thoughts(), lambda: item)
        if len(reply.texts()):
            whole = lambda: _message_item("".join(reply.texts()))  # noqa: E731  # not before the last token: it may be long
            yield from self._item({**_message_item(""), "content": []}, self._texts(), whole)
        for index, call in enumerate(reply.tool_calls):
            made = _call_item(index, call)
            yield from self._item({**made, "arguments": ""}, self._arguments(call), functools.partial(dict, made))

    def last(self) -> Iterator[bytes]:
        """Yield the event that ends the answer, with the usage."""
        status = self._status()
        yield self._event(f"response.{status}", response=self._response(status))

    def whole(self) -> bytes:
        self._items.clear()  # the tokens were counted before
        for _ in self.events():
            pass
        return json.dumps(self._response(self._status())).encode()

    def _status(self) -> str:
        return "incomplete" if self._reply.finish_reason == "length" else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        over = status != "in_progress"
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._base,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "output": self._items if over else [],
            "usage": self._usage() if over else None,
        }

    def _usage(self) -> dict[str, Any]:
        if self._reply.usage is not None:
            return dict(self._reply.usage)
        asked, answered = self._prompt_words, self._reply.count()
        return {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answered,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + answered,
        }

    def _item(
        self, begun: dict[str, Any], tokens: Iterator[bytes], finished: Callable[[], dict[str, Any]]
    ) -> Iterator[bytes]:
        place = len(self._items)
        begun = {**begun, "status": "in_progress"}
        before = self._event("response.output_item.added", output_index=place, item=begun)
        waiting = None
        for token in tokens:
            if waiting is not None:
                yield waiting
            waiting, before = before + token, b""
        self._items.append({**finished(), "status": "completed"})
        done = self._event("response.output_item.done", output_index=place, item=self._items[-1])
        yield (waiting or before) + done

    def _texts(self) -> Iterator[bytes]:
        place = f'"output_index": {len(self._items)}, "content_index": 0, "item_id": "msg_0"'.encode()
        for text in self._reply.texts():
            self._number += 1
            yield _TEXT % (self._number - 1, place, json.dumps(text).encode())

    def _thoughts(self) -> Iterator[bytes]:
        place = {"output_index": len(self._items), "summary_index": 0, "item_id": "rs_0"}
        for word in split_words(self._reply.reasoning or ""):
            yield self._event("response.reasoning_summary_text.delta", **place, delta=word)

    def _arguments(self, call: Call) -> Iterator[bytes]:
        yield b""  # the call itself
        for piece in call.pieces():
            yield self._event("response.function_call_arguments.delta", output_index=len(self._items), delta=piece)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return named_event(kind, {"sequence_number": self._number - 1, **fields})


def _reasoning_item(text: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}]
    return {"type": "reasoning", "id": "rs_0", "summary": summary, "encrypted_content": "sealed by the loopback"}


def _message_item(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_0", "role": "assistant", "content": content}


def _call_item(index: int, call: Call) -> dict[str, Any]:
    call_id = call.id or f"call_{index}_{call.name}"
    known = {"call_id": call_id, "name": call.name, "arguments": call.arguments_text()}
    return {"type": "function_call", "id": f"fc_{index}", **known}


def _count_words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    return sum(len(str(item.get("content") or item.get("output") or "").split()) for item in value or ())
