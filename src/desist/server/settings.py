"""The limits of a server: sizes, counts and timeouts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from desist.exceptions import ConfigurationError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes, counts and timeouts.

    Parameters:
        body: the largest request body in bytes.
        runs: live runs; another one is refused with 429.
        streams: open event streams of one client: of a token, or of an address if the server has no tokens.
        wait: the longest `?wait=` of a request in seconds.
        away: seconds without a client after which a run with `on_disconnect="cancel"` is cancelled.
        ping: seconds of silence after which a stream sends a comment.
        retry: seconds that clients are asked to wait before they reconnect a stream.
        patience: seconds that a client may read nothing before its connection is closed.
        connections: open connections. Fewer if the process may not open that many file descriptors.
        connections_per_address: open connections of one address (IPv6: of a /64). Behind a proxy, all have one address.
        reserved: how many of `connections` only cancel requests may use.
        header_timeout: seconds for all headers of a request, from the connection or the previous response.
        body_timeout: seconds for the whole body of a request.

    The last five apply to `serve` only; other ASGI servers have their own.

    Raises:
        ConfigurationError: a value is negative, or zero where it must be positive.
    """

    body: int = 1 << 20
    runs: int = 200
    streams: int = 100
    wait: float = 60.0
    away: float = 5.0
    ping: float = 15.0
    retry: float = 1.0
    patience: float = 60.0
    connections: int = 1000
    connections_per_address: int = 250
    reserved: int = 16
    header_timeout: float = 10.0
    body_timeout: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in ("away", "wait", "retry")):
                raise ConfigurationError(f"{field.name}={value} of Limits must be positive")
