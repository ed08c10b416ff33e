"""Encode a chat completion, and an error in OpenAI's format. Called by `desist.testing.provider.api`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from desist.testing.provider.replies import Call, Reply, split_words

__all__ = ["ChatEncoder", "error_body"]

DONE = b"data: [DONE]\n\n"


def error_body(status: int, message: str) -> bytes:
    """Return the JSON body of an error, in OpenAI's format."""
    kind = "rate_limit_exceeded" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()


class ChatEncoder:
    """Encodes one answer as a chat completion."""

    def __init__(self, index: int, request: Mapping[str, Any], reply: Reply) -> None:
        self._reply = reply
        self._base = {"id": f"chatcmpl-{index}", "created": 0, "model": str(request.get("model", ""))}
        head = json.dumps({**self._base, "object": "chat.completion.chunk"})[:-1]
        self._before = f'data: {head}, "choices": [{{"index": 0, "delta": '.encode()
        options = request.get("stream_options") or {}
        self._sends_usage = reply.usage is not None or bool(options.get("include_usage"))
        self._prompt_words = sum(len(str(m.get("content") or "").split()) for m in request.get("messages") or ())

    def first(self) -> bytes:
        return self._event(b'{"role": "assistant", "content": ""}')

    def events(self) -> Iterator[bytes]:
        for word in split_words(self._reply.reasoning or ""):
            yield self._event(json.dumps({"reasoning_content": word}).encode())
        for text in self._reply.texts():
            yield self._event(b'{"content": %b}' % json.dumps(text).encode())
        for index, call in enumerate(self._reply.tool_calls):
            for delta in _call_deltas(index, call):
                yield self._event(json.dumps({"tool_calls": [delta]}).encode())

    def last(self) -> Iterator[bytes]:
        """Yield the events that end the answer: the finish reason, the usage if requested, and the end marker."""
        yield self._event(b"{}", json.dumps(self._reply.reason()).encode())
        if self._sends_usage:
            chunk = {**self._base, "object": "chat.completion.chunk", "choices": [], "usage": self.usage()}
            yield b"data: %b\n\n" % json.dumps(chunk).encode()
        yield DONE

    def usage(self) -> dict[str, Any]:
        """Return the reply's usage; by default the number of words of the prompt and of tokens of the answer."""
        if self._reply.usage is not None:
            return dict(self._reply.usage)
        prompt, tokens = self._prompt_words, self._reply.count()
        return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}

    def whole(self) -> bytes:
        reply = self._reply
        message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.texts()) or None, "refusal": None}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [_whole_call(i, call) for i, call in enumerate(reply.tool_calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.reason()}
        body = {**self._base, "object": "chat.completion", "choices": [choice], "usage": self.usage()}
        return json.dumps(body).encode()

    def _event(self, delta: bytes, reason: bytes = b"null") -> bytes:
        return self._before + delta + b', "finish_reason": ' + reason + b"}]}\n\n"


def _call_id(index: int, call: Call) -> str:
    return call.id or f"call_{index}_{call.name}"


def _call_deltas(index: int, call: Call) -> Iterable[dict[str, Any]]:
    yield {
        "index": index,
        "id": _call_id(index, call),
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }
    for piece in call.pieces():
        yield {"index": index, "function": {"arguments": piece}}


def _whole_call(index: int, call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_text()}
    return {"id": _call_id(index, call), "type": "function", "function": function}
