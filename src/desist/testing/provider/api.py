"""The APIs of the loopback provider: one `ProviderApi` for each, looked up by the path of a request.

Called by `desist.testing.provider.connection` and `desist.testing.provider.reply_player`. An API defines the JSON; the
sockets belong to the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from desist.testing.provider import chat_encoder, messages_encoder, responses_encoder
from desist.testing.provider.replies import Reply

__all__ = ["APIS", "ProviderApi", "ResponseEncoder", "api_of"]


class ResponseEncoder(Protocol):
    """Encodes one answer as JSON."""

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
    encoder: Callable[[int, Mapping[str, Any], Reply], ResponseEncoder]
    error_body: Callable[[int, str], bytes]  #: of a status and a message


APIS = (
    ProviderApi(
        path="/chat/completions",
        encoder=chat_encoder.ChatEncoder,
        error_body=chat_encoder.error_body,
    ),
    ProviderApi(
        path="/responses",
        encoder=responses_encoder.ResponsesEncoder,
        error_body=chat_encoder.error_body,
    ),
    ProviderApi(
        path="/messages",
        encoder=messages_encoder.MessagesEncoder,
        error_body=messages_encoder.error_body,
    ),
)


def api_of(path: str) -> ProviderApi | None:
    """Return the API at a path; None if there is none."""
    return next((api for api in APIS if path.endswith(api.path)), None)
