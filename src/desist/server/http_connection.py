"""One connection of the server: HTTP as uvicorn speaks it, with time limits, and within what all connections may be.

    headers  a whole request head must have come in `header_timeout` seconds, since the connection or the last answer
    body     the body, in `body_timeout` seconds
    busy     the request may take as long as it likes; a client that takes nothing of the answer for `patience` is cut
    closing  what is still to be sent, `patience` seconds

On the server's loop. The limits are on all of the headers, or all of the body: one byte now and then doesn't help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from desist.server.connection_table import ConnectionTable, State, network_of
from desist.server.problems import HTTPProblem, answer
from desist.server.settings import Limits

__all__ = ["HttpConnection"]

_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpConnection(H11Protocol):
    """A connection. `of` makes the class for a server: uvicorn makes the objects itself."""

    table: ClassVar[ConnectionTable]
    limits: ClassVar[Limits]

    @classmethod
    def of(cls, connections: ConnectionTable, limits: Limits) -> type[HttpConnection]:
        """Return the class of the connections of one server."""
        return type(cls.__name__, (cls,), {"table": connections, "limits": limits})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._application: Any = self.app
        self.app = self._answer
        self.network = ""
        self._state = State.headers
        self._seen: Any = None  #: the request that was looked at last
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None  #: since the client has taken nothing
        self._closing = False

    # -- what the loop tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count it, and begin to wait for headers."""
        super().connection_made(transport)
        self.network = network_of(self.client[0] if self.client else "")
        self.table.open(self, transport.get_extra_info("socket").fileno())
        self._limit(self.limits.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.table.close(self)
        self._closing = True  # what is looked at later, at the end of the application's task, needs no timer
        for timer in (self._deadline, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._look()

    def pause_writing(self) -> None:
        """The client doesn't take what is sent: not for ever, whatever answers it."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.limits.patience, self.drop)

    def resume_writing(self) -> None:
        """The client takes it."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def on_response_complete(self) -> None:
        """The next request may come, or has come in part."""
        super().on_response_complete()
        self._look()

    # -- what follows from that

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, if there is room for it. A task of its own: it begins after `_look`."""
        try:
            if self._admitted:
                await self._application(scope, receive, send)
            else:
                headers = {"Connection": "close", "Retry-After": "1"}
                await answer(HTTPProblem(503, "the server has too many open requests", headers))(scope, receive, send)
        finally:
            self.loop.call_soon(self._look)  # after uvicorn has closed what failed

    def _look(self) -> None:
        """Note what the connection is at, and until when it may be."""
        if self.transport.is_closing():
            if not self._closing:
                self._closing = True
                self._limit(self.limits.patience)
            return
        if self.cycle is not self._seen:
            self._seen = self.cycle
            self.table.change(self, State.headers)  # it may have been sent while the one before was answered
            self._admitted = self.table.admit(self, cancels=_is_cancel(self.cycle.scope))
        if not self._admitted:
            state = State.headers
        elif self.conn.their_state is h11.SEND_BODY:
            state = State.body
        elif self.cycle is not None and not self.cycle.response_complete:
            state = State.busy
        else:
            state = State.headers
        self.table.change(self, state)
        if state is self._state:
            return
        self._state = state
        seconds = {State.headers: self.limits.header_timeout, State.body: self.limits.body_timeout}
        self._limit(seconds.get(state))

    def _limit(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        """The time is over. Who has been sent something gets time to take it, once."""
        if self._closing:
            self.drop()
            return
        half = self.conn.trailing_data[0] if self._state is State.headers else not self.cycle.response_started
        if half:
            self.transport.write(_TIMED_OUT)
        self.transport.close()
        self._look()

    def drop(self) -> None:
        """Close it at once, whatever is still to be sent."""
        self.transport.abort()


def _is_cancel(scope: Mapping[str, Any]) -> bool:
    """Whether a request stops runs: by its path, of which all routes that do have the word at the end."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.endswith(("/cancel", ":cancel"))
