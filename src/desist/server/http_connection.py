"""One HTTP connection of the server: uvicorn's h11 protocol with timeouts, counted in the `ConnectionTable`.

The timeout of each state:

    headers  `header_timeout` seconds for the complete headers, from the connection or the previous response
    body     `body_timeout` seconds for the complete body
    busy     none for the request; `patience` seconds for a client that reads nothing of the response
    closing  `patience` seconds for the client to read the rest

All methods run on the server's loop. A timeout is for all of the headers or body: single bytes do not extend it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from desist.server.connection_table import ConnectionTable, State, network_of
from desist.server.problems import HTTPProblem
from desist.server.settings import Limits

__all__ = ["HttpConnection"]

_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpConnection(H11Protocol):
    """A connection. uvicorn creates the objects, so `of` returns a class bound to one server's table and limits."""

    table: ClassVar[ConnectionTable]
    limits: ClassVar[Limits]

    @classmethod
    def of(cls, connections: ConnectionTable, limits: Limits) -> type[HttpConnection]:
        """Return the class for one server."""
        return type(cls.__name__, (cls,), {"table": connections, "limits": limits})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._application: Any = self.app
        self.app = self._answer
        self.network = ""
        self._state = State.headers
        self._seen: Any = None  #: uvicorn's cycle that was admitted or refused last
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None  #: runs while the client reads nothing
        self._closing = False

    # -- called by the loop and by uvicorn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Register the connection and start the timeout for headers."""
        super().connection_made(transport)
        self.network = network_of(self.client[0] if self.client else "")
        self.table.open(self, transport.get_extra_info("socket").fileno())
        self._set_timeout(self.limits.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection and cancel its timers."""
        self.table.close(self)
        self._closing = True  # `_update` still runs at the end of the application's task: it must start no timer
        for timer in (self._deadline, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive data."""
        super().data_received(data)
        self._update()

    def pause_writing(self) -> None:
        """The send buffer is full: start the timeout for a client that reads nothing."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.limits.patience, self.drop)

    def resume_writing(self) -> None:
        """The client reads again: stop that timeout."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def on_response_complete(self) -> None:
        """The next request may arrive, or has arrived in part."""
        super().on_response_complete()
        self._update()

    # -- state and timeouts

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it if there is no room. Runs in a task that starts after `_update`."""
        try:
            if self._admitted:
                await self._application(scope, receive, send)
            else:
                headers = {"Connection": "close", "Retry-After": "1"}
                problem = HTTPProblem(503, "the server has too many open requests: try again later", headers)
                await problem.response()(scope, receive, send)
        finally:
            self.loop.call_soon(self._update)  # after uvicorn has closed a failed connection

    def _update(self) -> None:
        """Update the state in the table, and start the timeout of a new state."""
        if self.transport.is_closing():
            if not self._closing:
                self._closing = True
                self._set_timeout(self.limits.patience)
            return
        if self.cycle is not self._seen:
            self._seen = self.cycle
            self.table.change(self, State.headers)  # a pipelined request arrived while the previous one was answered
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
        self._set_timeout(seconds.get(state))

    def _set_timeout(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._on_timeout)

    def _on_timeout(self) -> None:
        """Close the connection. A client with an unread response gets `patience` seconds to read it, once."""
        if self._closing:
            self.drop()
            return
        incomplete = self.conn.trailing_data[0] if self._state is State.headers else not self.cycle.response_started
        if incomplete:
            self.transport.write(_TIMED_OUT)
        self.transport.close()
        self._update()

    def drop(self) -> None:
        """Close the connection at once, without sending the rest."""
        self.transport.abort()


def _is_cancel(scope: Mapping[str, Any]) -> bool:
    """Return whether a request cancels runs. The paths of all such routes end in this word."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.endswith(("/cancel", ":cancel"))
