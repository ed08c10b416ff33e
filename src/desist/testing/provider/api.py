"""What the loopback provider can speak: one `Dialect` for each API, found by the path of a request.

Called by `desist.testing.provider.connection` and `desist.testing.provider.reply_player`. A dialect knows the JSON; it knows no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from desist.testing.provider import chat_encoder as chat_wire
from desist.testing.provider import messages_encoder as messages_wire
from desist.testing.provider import responses_encoder as responses_wire
from desist.testing.provider.replies import Reply
from desist.testing.provider.request_checks import check_chat_request, check_messages_request, check_responses_request

__all__ = ["DIALECTS", "Dialect", "Shape", "dialect_of"]


class Shape(Protocol):
    """The JSON around the tokens of one answer."""

    def first(self) -> bytes:
        """Return the events that open the answer."""

    def events(self) -> Iterator[bytes]:
        """Yield the events of each token."""

    def last(self) -> Iterator[bytes]:
        """Yield the events that end the answer."""

    def whole(self) -> bytes:
        """Return the whole answer as one JSON body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One API."""

    path: str  #: after "/v1"
    shape: Callable[[int, Mapping[str, Any], Reply], Shape]
    error_body: Callable[[int, str], bytes]  #: of a status and a message
    check: Callable[[Mapping[str, Any]], None]  #: raises AssertionError for a request that the API wouldn't take


DIALECTS = (
    Dialect(
        path="/chat/completions",
        shape=chat_wire.Shape,
        error_body=chat_wire.error_body,
        check=check_chat_request,
    ),
    Dialect(
        path="/responses",
        shape=responses_wire.Shape,
        error_body=chat_wire.error_body,
        check=check_responses_request,
    ),
    Dialect(
        path="/messages",
        shape=messages_wire.Shape,
        error_body=messages_wire.error_body,
        check=check_messages_request,
    ),
)


def dialect_of(path: str) -> Dialect | None:
    """Return the dialect that is spoken at a path, None where there is none."""
    return next((dialect for dialect in DIALECTS if path.endswith(dialect.path)), None)
