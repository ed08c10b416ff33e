"""What the loopback provider can speak: one `ProviderApi` for each API, found by the path of a request.

Called by `desist.testing.provider.connection` and `desist.testing.provider.reply_player`. A dialect knows the JSON; it
knows no sockets.
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

__all__ = ["DIALECTS", "ProviderApi", "ResponseEncoder", "dialect_of"]


class ResponseEncoder(Protocol):
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
class ProviderApi:
    """One API."""

    path: str  #: after "/v1"
    shape: Callable[[int, Mapping[str, Any], Reply], ResponseEncoder]
    error_body: Callable[[int, str], bytes]  #: of a status and a message
    check: Callable[[Mapping[str, Any]], None]  #: raises AssertionError for a request that the API wouldn't take


DIALECTS = (
    ProviderApi(
        path="/chat/completions",
        shape=chat_wire.ChatEncoder,
        error_body=chat_wire.error_body,
        check=check_chat_request,
    ),
    ProviderApi(
        path="/responses",
        shape=responses_wire.ResponsesEncoder,
        error_body=chat_wire.error_body,
        check=check_responses_request,
    ),
    ProviderApi(
        path="/messages",
        shape=messages_wire.MessagesEncoder,
        error_body=messages_wire.error_body,
        check=check_messages_request,
    ),
)


def dialect_of(path: str) -> ProviderApi | None:
    """Return the dialect that is spoken at a path, None where there is none."""
    return next((dialect for dialect in DIALECTS if path.endswith(dialect.path)), None)
