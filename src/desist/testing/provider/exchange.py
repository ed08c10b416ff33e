"""What the loopback provider saw: one `Exchange` per request, all of them in a `ExchangeLog`.

Written by the provider's loop (or by the reader of its process), read and waited on by any thread. Nothing here
knows of sockets; holding and releasing an answer goes through a function that the provider puts in.
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
    """One request to the provider and what became of its answer. Times are CLOCK_MONOTONIC seconds.

    Every `wait_...` blocks its thread: on an event loop, call it through `asyncio.to_thread`.
    """

    def __init__(self, log: ExchangeLog, index: int, body: dict[str, Any], headers: dict[str, str]):
        self._log = log
        self.index = index  #: its place in `provider.exchanges`, from 0
        self.request = body  #: the JSON body
        self.headers = headers  #: names in lower case
        self.path = ""  #: as it was asked for, with the query: tells which API
        self.received_at = 0.0  #: when the request was complete
        self.connection = 0  #: the number of its connection, from 1: tells whether one was used again
        self.refused: str | None = None  #: what was wrong with the request, if it was refused for its form
        self.headers_at: float | None = None  #: when the answer's headers went out
        self.tokens_sent = 0  #: tokens generated, sent or tried to send: what is billed
        self.tokens_sent_after_close = 0  #: those of them generated after the client had left
        self.tokens_unsent_saved = 0  #: tokens that were not generated because the client had left
        self.closed_at: float | None = None  #: when the end of its connection was seen
        self.closed_by: str | None = None  #: "client" or "provider"
        self.finished = False  #: the answer was sent to its end
        self.over = False  #: nothing more will be generated for it
        self.writes: list[tuple[float, int]] = []  #: (time, tokens so far) of each write

    def wait_headers(self, timeout: float = 10.0) -> float:
        """Wait until the answer's headers went out; return when. Raises TimeoutError."""
        self._log.wait(lambda: self.headers_at is not None, timeout, f"{self}: headers were not sent")
        assert self.headers_at is not None
        return self.headers_at

    def wait_sent(self, count: int, timeout: float = 10.0) -> int:
        """Wait until `count` tokens were sent; return how many were. Raises TimeoutError, also if it is over before."""
        self._log.wait(lambda: self.tokens_sent >= count or self.over, timeout, f"{self}: waited for {count} tokens")
        if self.tokens_sent < count:
            raise TimeoutError(f"{self}: it is over, and {count} tokens were waited for")
        return self.tokens_sent

    def wait_closed(self, timeout: float = 10.0) -> float:
        """Wait until its connection has ended; return when that was seen. Raises TimeoutError."""
        self._log.wait(lambda: self.closed_at is not None, timeout, f"{self}: its connection is still open")
        assert self.closed_at is not None
        return self.closed_at

    def wait_over(self, timeout: float = 10.0) -> None:
        """Wait until nothing more will be generated; then all counts are final. Raises TimeoutError."""
        self._log.wait(lambda: self.over, timeout, f"{self}: still generating, or hanging")

    def tokens_after(self, moment: float) -> int:
        """Return how many tokens were written after `moment`. For a provider in a process: once it is over."""
        at = bisect_right(self.writes, moment, key=lambda write: write[0])
        return self.tokens_sent - (self.writes[at - 1][1] if at else 0)

    def hold(self) -> None:
        """Make the answer hang before its next token, until `release()`."""
        self._log.control(self.index, "hold")

    def release(self) -> None:
        """End one hang or hold: the one that the answer is in, else the next."""
        self._log.control(self.index, "release")

    def __repr__(self) -> str:
        state = "finished" if self.finished else "over" if self.over else "running"
        closed = f", closed by {self.closed_by}" if self.closed_by else ""
        return f"<Exchange {self.index} {state}, {self.tokens_sent} tokens sent{closed}>"


class ExchangeLog:
    """Everything that a provider saw, and the bell that rings when there is more.

    `listener(what, fields)` is told of every change, on the thread that made it.
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

    def request(self, body: dict[str, Any], headers: dict[str, str], **seen: Any) -> Exchange:
        """Note a request that has arrived: its body, its headers, and other fields of its exchange."""
        with self._changed:
            exchange = Exchange(self, len(self.exchanges), body, headers)
            for name, value in seen.items():
                setattr(exchange, name, value)
            self.exchanges.append(exchange)
            self._report("request", {"body": body, "headers": headers, **seen})
            return exchange

    def update(self, exchange: Exchange, **fields: Any) -> None:
        """Set fields of an exchange."""
        with self._changed:
            for name, value in fields.items():
                setattr(exchange, name, value)
            self._report("update", {"index": exchange.index, **fields})

    def wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until `condition()` holds; raise TimeoutError with `what` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    if condition():
                        return
                    raise TimeoutError(f"{what}, after {timeout} s")

    def _report(self, what: str, fields: dict[str, Any]) -> None:
        if self._listener is not None:
            self._listener(what, fields)
        self._changed.notify_all()
