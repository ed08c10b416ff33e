"""`read_recorded_stream`: what desist makes of a response that a provider or proxy sent some time ago."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from desist.models.http.answer import Answer
from desist.models.http.model import HttpModel
from desist.models.http.stream_reader import StreamReader, is_stream, read_document
from desist.models.message import ToolCall
from desist.models.response import ModelResponse, Usage

__all__ = ["RecordedAnswer", "read_recorded_stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """An answer as an agent would get it."""

    content: str
    reasoning_content: str
    tool_calls: list[ToolCall]
    finish_reason: str | None
    usage: Usage | None
    pieces: list[ModelResponse] = field(repr=False)  #: in the order in which a stream yields them


def read_recorded_stream(
    model: HttpModel,
    recorded: bytes | Iterable[bytes],
    *,
    content_type: str = "text/event-stream",
    tools: Collection[str] = (),
) -> RecordedAnswer:
    """Read the body of a recorded response as `model` reads it from a connection. Nothing is sent.

    Parameters:
        model: an `OpenAIChat`, `OpenAIResponses` or `Claude`; it needs no key.
        recorded: the body, or its chunks: a stream of events, or one JSON document.
        content_type: of the response.
        tools: names of the tools that the request had. They help where a proxy doesn't tell calls apart well.

    Raises:
        ModelError: the response reports an error.
        ModelResponseError: the response is not in the model's protocol, is incomplete, or is empty.
    """
    chunks = [recorded] if isinstance(recorded, bytes) else list(recorded)
    parser = model.parser(Answer(tools))
    pieces: list[ModelResponse] = []
    if is_stream(content_type, b"".join(chunks)) is False:
        pieces += read_document(b"".join(chunks), parser)
    else:
        reader = StreamReader(parser)
        for chunk in [*filter(None, chunks), b""]:
            if not reader.is_over:
                pieces += reader.feed(chunk)
        pieces.append(reader.last())
    last = pieces[-1]
    calls = [
        ToolCall(id=call.id or f"call_{call.index}", name=call.name or "", arguments=call.arguments)
        for call in last.tool_calls or ()
    ]
    return RecordedAnswer(
        content="".join(piece.content or "" for piece in pieces),
        reasoning_content="".join(piece.reasoning_content or "" for piece in pieces),
        tool_calls=calls,
        finish_reason=last.finish_reason,
        usage=last.usage,
        pieces=pieces,
    )
