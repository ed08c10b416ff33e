"""What the loopback provider answers: `Reply`, and the tool calls in it.

Plain data: a reply is chosen by `LoopbackProvider`, played by `desist.testing.provider.reply_player`, and sent to a
provider in another process as JSON. Nothing here knows of sockets, loops or HTTP.
"""

from __future__ import annotations

import dataclasses
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
    """Split text into words that keep the space behind them: joined, they give `text` again."""
    return re.findall(r"\S+\s*|\s+", text)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that a model makes. `arguments` is a mapping, or the JSON text as is (it may be broken)."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None  #: made from the call's place when None

    def arguments_text(self) -> str:
        """Return the arguments as the text that goes over the wire."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))

    def pieces(self) -> list[str]:
        """Return the arguments' text in the pieces in which it is streamed."""
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
    tokens: int | Sequence[str] | None = None  #: the pieces themselves, or how many to make up
    tool_calls: Sequence[Call] = ()  #: streamed in pieces, after the text if there is one
    reasoning: str | None = None  #: streamed word by word before the text, in the way of each API
    token_interval: float = 0.0  #: between tokens; kept on average
    before_headers: float = 0.0
    before_first_token: float = 0.0  #: after the headers
    stall_after: int | None = None  #: hang after so many tokens
    flood: bool = False  #: many tokens per write, as fast as the socket takes them
    status: int = 200
    error: str = "made to fail"  #: the error's message when `status` isn't 200
    retry_after: float | None = None  #: sends the header, in seconds
    finish_reason: str | None = None  #: "stop" or "tool_calls" when None
    usage: Mapping[str, Any] | None = None  #: as the API names it; when None, counted
    stream: bool = True  #: False: plain JSON, whatever was asked for
    malformed: bytes | None = None  #: these bytes instead of the rest of the body, after the tokens if there are any
    drop_before_headers: bool = False  #: close the connection without any answer
    drop_after: int | None = None  #: close the connection after so many tokens, without an end
    ignore_disconnect: bool = False  #: keep generating after the client has left, as bad providers do

    def __post_init__(self) -> None:
        if self.text is not None and self.tokens is not None:
            raise ConfigurationError("Reply: text= and tokens= both say what is sent: give one of them")
        if self.flood and self.token_interval:
            raise ConfigurationError("Reply: flood=True sends without pauses: leave token_interval= out")
        if self.status != 200 and (self.has_tokens or self.malformed is not None):
            raise ConfigurationError(f"Reply: an answer with status={self.status} has no tokens: only `error` is sent")
        for name in ("token_interval", "before_headers", "before_first_token", "stall_after", "drop_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigurationError(f"Reply: {name}={value} is negative")

    @property
    def has_tokens(self) -> bool:
        """Whether text, tokens, reasoning or tool calls were named."""
        named = self.text is not None or self.tokens is not None or self.reasoning is not None
        return named or bool(self.tool_calls)

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
        """Return how many tokens the whole answer has."""
        return (
            len(split_words(self.reasoning or ""))
            + len(self.texts())
            + sum(1 + len(call.pieces()) for call in self.tool_calls)
        )

    def reason(self) -> str:
        """Return the finish reason to send."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults, as JSON can hold them."""
        changed: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                changed[item.name] = value
        if "tool_calls" in changed:
            changed["tool_calls"] = [[c.name, c.arguments_text(), c.id] for c in self.tool_calls]
        if self.malformed is not None:
            changed["malformed"] = self.malformed.decode("latin-1")
        return changed

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reply:
        """Make the reply again that `to_json` wrote down."""
        fields = dict(data)
        if "tool_calls" in fields:
            fields["tool_calls"] = [Call(*c) for c in fields["tool_calls"]]
        if "malformed" in fields:
            fields["malformed"] = fields["malformed"].encode("latin-1")
        return cls(**fields)


class _GeneratedTokens(Sequence[str]):
    """`n` made-up tokens, "t0 ", "t1 " and so on, none of them kept in memory."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        return [f"t{i} " for i in range(self._n)[index]] if isinstance(index, slice) else f"t{range(self._n)[index]} "

    def __iter__(self) -> Iterator[str]:
        return (f"t{i} " for i in range(self._n))
