"""The record of a loopback provider: one `Exchange` per request, all of them in an `ExchangeLog`.

The provider's loop writes the log (for a provider in a process: the thread that reads its output); any thread may read
it and wait. The log has no sockets: an answer is held and released through a function passed by the provider.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

__all__ = ["Exchange", "ExchangeLog"]

Control = Callable[[int, str], None]


class Exchange:
    """One request to the provider and the progress of its answer. Times are CLOCK_MONOTONIC seconds.

    Every `wait_...` blocks its thread: on an event loop, call it through `asyncio.to_thread`.
    """

    def __init__(self, log: ExchangeLog, index: int, body: dict[str, Any], headers: dict[str, str]):
        self._log = log
        self.index = index  #: the index in `provider.exchanges`
        self.request = body  #: the JSON body
        self.headers = headers  #: names in lower case
        self.path = ""  #: the requested path, with the query; determines the API
        self.received_at = 0.0  #: when the request was received completely
        self.connection = 0  #: the number of its connection, from 1; equal for requests on one connection
        self.refused: str | None = None  #: why the request is invalid; None if it was accepted
        self.headers_at: float | None = None  #: when the answer's headers were sent
        self.tokens_sent = 0  #: generated tokens, delivered or not: the billed ones
        self.tokens_sent_after_close = 0  #: tokens of those generated after the client had disconnected
        self.tokens_unsent_saved = 0  #: tokens that were not generated because the client had disconnected
        self.closed_at: float | None = None  #: when the end of its connection was detected
        self.closed_by: str | None = None  #: "client" or "provider"
        self.finished = False  #: whether the answer was sent completely
        self.over = False  #: whether the generation has ended, completely or not
        self.writes: list[tuple[float, int]] = []  #: (time, tokens so far) of each write

    def wait_headers(self, timeout: float = 10.0) -> float:
        """Wait until the answer's headers were sent; return the time. Raises TimeoutError."""
        self._log.wait(lambda: self.headers_at is not None, timeout, f"{self}: headers were not sent")
        assert self.headers_at is not None
        return self.headers_at

    def wait_sent(self, count: int, timeout: float = 10.0) -> int:
        """Wait until `count` tokens were sent; return the current number.

        Raises TimeoutError, also if the generation ends with fewer tokens.
        """
        self._log.wait(lambda: self.tokens_sent >= count or self.over, timeout, f"{self}: waited for {count} tokens")
        if self.tokens_sent < count:
            raise TimeoutError(f"{self}: the generation has ended before {count} tokens")
        return self.tokens_sent

    def wait_closed(self, timeout: float = 10.0) -> float:
        """Wait until the connection has ended; return the time. Raises TimeoutError."""
        self._log.wait(lambda: self.closed_at is not None, timeout, f"{self}: its connection is still open")
        assert self.closed_at is not None
        return self.closed_at

    def wait_over(self, timeout: float = 10.0) -> None:
        """Wait until the generation has ended and all counts are final. Raises TimeoutError."""
        self._log.wait(lambda: self.over, timeout, f"{self}: still generating, or hanging")

    def tokens_after(self, moment: float) -> int:
        """Return how many tokens were written after `moment`.

        For a provider in a process, valid once the generation has ended.
        """
        at = bisect_right(self.writes, moment, key=lambda write: write[0])
        return self.tokens_sent - (self.writes[at - 1][1] if at else 0)

    def hold(self) -> None:
        """Pause the answer before its next token, until `release()`."""
        self._log.control(self.index, "hold")

    def release(self) -> None:
        """End one pause of the answer: the current one, or the next if the answer isn't paused."""
        self._log.control(self.index, "release")

    def __repr__(self) -> str:
        state = "finished" if self.finished else "over" if self.over else "running"
        closed = f", closed by {self.closed_by}" if self.closed_by else ""
        return f"<Exchange {self.index} {state}, {self.tokens_sent} tokens sent{closed}>"


class ExchangeLog:
    """All exchanges of a provider, and a condition that is notified of every change.

    `listener(kind, fields)` is called for every change, on the thread that makes the change.
    """

    def __init__(self, control: Control, listener: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self._changed = threading.Condition()
        self._listener = listener
        self.control = control
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.open_connections = 0

    def opened(self) -> int:
        """Count a new connection and return its number."""
        with self._changed:
            self.count(self.connections + 1, self.open_connections + 1)
            return self.connections

    def closed(self) -> None:
        """Count a connection as ended."""
        self.count(self.connections, self.open_connections - 1)

    def count(self, connections: int, open_connections: int) -> None:
        """Set both counts."""
        with self._changed:
            self.connections, self.open_connections = connections, open_connections
            self._report("connections", {"connections": connections, "open_connections": open_connections})

    def request(self, body: dict[str, Any], headers: dict[str, str], **fields: Any) -> Exchange:
        """Add the exchange of a received request. `fields` are further attributes of the exchange."""
        with self._changed:
            exchange = Exchange(self, len(self.exchanges), body, headers)
            for name, value in fields.items():
                setattr(exchange, name, value)
            self.exchanges.append(exchange)
            self._report("request", {"body": body, "headers": headers, **fields})
            return exchange

    def update(self, exchange: Exchange, **fields: Any) -> None:
        """Set fields of an exchange."""
        with self._changed:
            for name, value in fields.items():
                setattr(exchange, name, value)
            self._report("update", {"index": exchange.index, **fields})

    def wait(self, condition: Callable[[], bool], timeout: float, message: str) -> None:
        """Wait until `condition()` is true; raise TimeoutError with `message` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    if condition():
                        return
                    raise TimeoutError(f"{message}, after {timeout} s")

    def _report(self, kind: str, fields: dict[str, Any]) -> None:
        if self._listener is not None:
            self._listener(kind, fields)
        self._changed.notify_all()
