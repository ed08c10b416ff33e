"""What can be set about a server: how much it takes, and how patient it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

from desist.exceptions import ConfigurationError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a server takes, and how patient it is.

    Parameters:
        body: bytes of a request's body.
        runs: how many runs may live at once; one more is refused with 429.
        streams: how many streams of events a client may hold open: a token, or an address where there are no tokens.
        wait: seconds that a request may wait for a run's end (`?wait=`).
        away: seconds that a client may be away before a run with `on_disconnect="cancel"` is cancelled.
        ping: seconds of silence after which a stream says that it is alive.
        retry: seconds after which a client that lost its stream is told to come back.
        patience: seconds that a client may take nothing of what is sent before its stream is cut.
        connections: how many may be open at once. Fewer where the process may not open so many descriptors.
        connections_per_address: how many of them one address may have: behind a proxy that is all. IPv6: a /64.
        reserved: how many of `connections` are kept for cancels.
        header_timeout: seconds for all headers of a request, from the connection or the answer before.
        body_timeout: seconds for all of a request's body.

    The last five are those of `serve`; another ASGI server has its own.

    Raises:
        ConfigurationError: a value is negative, or zero where that makes no sense.
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
