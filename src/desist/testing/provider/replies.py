"""`Reply`: one answer of the loopback provider, and `Call`: a tool call in it.

Plain data, without sockets, loops or HTTP. `LoopbackProvider` chooses a reply, `desist.testing.provider.reply_player`
plays it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["HANG", "Call", "Reply"]

#: A wait that ends only with `exchange.release()`.
HANG = math.inf

_ARGUMENT_PIECE = 8  # characters of a tool call's arguments in one piece
_DEFAULT_TEXT = "Hello from the loopback provider."


def split_words(text: str) -> list[str]:
    """Split text into words, each with the space after it; joined, the words are equal to `text`."""
    return re.findall(r"\S+\s*|\s+", text)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a model. `arguments` is a mapping, or a raw JSON text, which may be malformed."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None  #: derived from the index of the call if None

    def arguments_text(self) -> str:
        """Return the arguments as the text that is sent."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))

    def pieces(self) -> list[str]:
        """Return the streamed pieces of the arguments' text."""
        text = self.arguments_text()
        return [text[i : i + _ARGUMENT_PIECE] for i in range(0, len(text), _ARGUMENT_PIECE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the loopback provider. All times are in seconds; `HANG` waits for `exchange.release()`.

    A *token* is one streamed piece: a piece of text, of reasoning, or of a tool call.

    Raises:
        ConfigurationError: the fields contradict each other.
    """

    text: str | None = None  #: streamed word by word
    tokens: int | Sequence[str] | None = None  #: the pieces, or the number of pieces to generate
    tool_calls: Sequence[Call] = ()  #: streamed in pieces, after the text if there is one
    reasoning: str | None = None  #: streamed word by word before the text, in the format of the API
    token_interval: float = 0.0  #: the average time between tokens
    before_headers: float = 0.0
    before_first_token: float = 0.0  #: after the headers
    stall_after: int | None = None  #: hang after this many tokens
    flood: bool = False  #: many tokens per write, as fast as the socket accepts them
    status: int = 200
    error: str = "made to fail"  #: the error's message when `status` isn't 200
    retry_after: float | None = None  #: sends the header, in seconds
    finish_reason: str | None = None  #: "stop" or "tool_calls" when None
    usage: Mapping[str, Any] | None = None  #: in the format of the API; counted if None
    stream: bool = True  #: False: plain JSON, even if the request asks for a stream
    malformed: bytes | None = None  #: bytes sent instead of the rest of the body, after the tokens if any
    drop_before_headers: bool = False  #: close the connection without any answer
    drop_after: int | None = None  #: close the connection after this many tokens, before the end of the body
    ignore_disconnect: bool = False  #: continue to generate after the client has disconnected, as some providers do

    def __post_init__(self) -> None:
        if self.text is not None and self.tokens is not None:
            raise ConfigurationError("Reply: text= and tokens= exclude each other: pass one of them")
        if self.flood and self.token_interval:
            raise ConfigurationError("Reply: flood=True sends without pauses: omit token_interval=")
        if self.status != 200 and (self.has_tokens or self.malformed is not None):
            raise ConfigurationError(f"Reply: an answer with status={self.status} has no tokens: only `error` is sent")
        for name in ("token_interval", "before_headers", "before_first_token", "stall_after", "drop_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigurationError(f"Reply: {name}={value} is negative: pass 0 or more")

    @property
    def has_tokens(self) -> bool:
        """Whether the reply sets text, tokens, reasoning or tool calls."""
        has_text = self.text is not None or self.tokens is not None or self.reasoning is not None
        return has_text or bool(self.tool_calls)

    def texts(self) -> Sequence[str]:
        """Return the pieces of text."""
        if isinstance(self.tokens, int):
            return _GeneratedTokens(self.tokens)
        if self.tokens is not None:
            return self.tokens
        if self.text is not None:
            return split_words(self.text)
        bare = not self.tool_calls and self.malformed is None
        return split_words(_DEFAULT_TEXT) if bare else ()

    def count(self) -> int:
        """Return the number of tokens of the complete answer."""
        return (
            len(split_words(self.reasoning or ""))
            + len(self.texts())
            + sum(1 + len(call.pieces()) for call in self.tool_calls)
        )

    def reason(self) -> str:
        """Return the finish reason to send."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


class _GeneratedTokens(Sequence[str]):
    """`n` generated tokens, "t0 ", "t1 " and so on; none is kept in memory."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        return [f"t{i} " for i in range(self._n)[index]] if isinstance(index, slice) else f"t{range(self._n)[index]} "

    def __iter__(self) -> Iterator[str]:
        return (f"t{i} " for i in range(self._n))
