"""What a server script says in each of the three APIs, and the model that understands it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from http_raw_server import DONE, STOP, text

from desist.models.anthropic import Claude
from desist.models.http.model import HttpModel
from desist.models.openai import OpenAIChat, OpenAIResponses

KEY = "sk-test-0123456789"


def typed(kind: str, **fields: Any) -> bytes:
    """Return an event that says its type in its name and in its data."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@dataclass(frozen=True)
class Speech:
    """One API, as a server script speaks it."""

    name: str
    model: type[HttpModel]
    path: str
    almost: bytes = b""  #: says that the answer is complete, and leaves the end of the stream open
    end: bytes = b""  #: what ends the stream after that

    def __str__(self) -> str:
        return self.name

    def at(self, url: str, **given: Any) -> HttpModel:
        """Return a model at `url` that doesn't retry, unless told to."""
        return self.model("test-model", **{"base_url": url, "api_key": KEY, "max_retries": 0} | given)

    def text(self, content: str) -> bytes:
        """Return an event with a piece of text."""
        if self.model is OpenAIChat:
            return text(content)
        if self.model is OpenAIResponses:
            return typed("response.output_text.delta", output_index=0, content_index=0, delta=content)
        return typed("content_block_delta", index=0, delta={"type": "text_delta", "text": content})

    def error(self, kind: str, message: str) -> bytes:
        """Return an error in mid-stream."""
        if self.model is OpenAIChat:
            return b"data: " + json.dumps({"error": {"type": kind, "message": message}}).encode() + b"\n\n"
        if self.model is OpenAIResponses:
            failure = {"status": "failed", "error": {"code": kind, "message": message}}
            return typed("response.failed", response=failure)
        return typed("error", error={"type": kind, "message": message})


_ENDED = {"id": "r", "status": "completed", "output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}

CHAT = Speech("chat", OpenAIChat, "/v1/chat/completions", STOP, DONE)
RESPONSES = Speech(
    "responses",
    OpenAIResponses,
    "/v1/responses",
    end=typed("response.completed", response=_ENDED),
)
MESSAGES = Speech(
    "messages",
    Claude,
    "/v1/messages",
    typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
    typed("message_stop"),
)
SPEECHES = [CHAT, RESPONSES, MESSAGES]
