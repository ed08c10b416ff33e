"""Server-sent events: a run, told to one client until its end or the client's.

A stream holds nothing but its place among the kept events, so a slow client costs no memory. It is sent in batches,
with a turn for the loop between two of them; silence is filled with comments; who takes nothing for long is cut off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from desist.cancel.reason import Source
from desist.exceptions import DesistError
from desist.run.events.codec import sse_frame
from desist.run.records.json_values import to_json_line
from desist.server.disconnects import FollowerTracker
from desist.server.problems import HTTPProblem
from desist.server.settings import Limits
from desist.server.stack_redaction import without_stacks
from desist.server.tokens import Caller
from desist.streams.channel import ChannelClosed
from desist.streams.follower import Follower

__all__ = ["EVENT_STREAM", "EventStream", "StreamLimiter", "indexed", "inline"]

EVENT_STREAM = "text/event-stream"
_BATCH = 64  #: events between two turns of the loop
_PING = b": ping\n\n"

Frame = Callable[[Any], bytes]


def indexed(run_id: str) -> Frame:
    """Return how an event is told in a stream to come back to: with `id`, `event_index` and the stream's run."""
    return lambda event: _public(sse_frame(event, event.event_index, run_id))


def error_frame(error: Exception) -> bytes:
    """Tell that a stream can't be told on."""
    return b"event: error\ndata: %b\n\n" % to_json_line({"event": "error", "error": str(error)})


def inline(event: Any) -> bytes:
    """Tell an event as it is, to whoever won't come back."""
    return _public(sse_frame(event))


def _public(frame: bytes) -> bytes:
    """Return a frame without what clients aren't shown: its second line is the event."""
    name, data, place = frame.split(b"\n", 2)
    return b"\n".join((name, b"data: " + without_stacks(data.removeprefix(b"data: ")), place))


class StreamLimiter:
    """How many streams each client holds open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, caller: Caller) -> None:
        """Refuse one more, if need be.

        Raises:
            Refused: with 429.
        """
        if self._open[caller.key] >= self._most:
            raise HTTPProblem(429, f"this client has {self._most} streams open already", {"Retry-After": "1"})

    def count(self, caller: Caller, by: int) -> None:
        """Note that one was opened (1) or closed (-1)."""
        self._open[caller.key] += by
        if not self._open[caller.key]:
            del self._open[caller.key]


@dataclass(slots=True, kw_only=True)
class StreamContext:
    """Where it is noted who listens."""

    followers: FollowerTracker
    streams: StreamLimiter
    caller: Caller
    starts: bool = False  #: this client stands for the start of the run; see `desist.server.disconnects`


class EventStream(Response):
    """The response that tells a run."""

    media_type = EVENT_STREAM

    def __init__(
        self, follower: Follower[Any], frame: Frame, *, limits: Limits, audience: StreamContext, retry: bool = True
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._follower, self._frame, self._limits, self._audience = follower, frame, limits, audience
        self._first = b"retry: %d\n\n" % int(limits.retry * 1000) if retry else b""
        self._finished = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell it, until it is over or the client has left."""
        audience, run_id = self._audience, self._follower.run_id
        audience.streams.count(audience.caller, 1)
        audience.followers.joined(run_id, audience.caller, starts=audience.starts)
        telling = asyncio.ensure_future(self._iter_frames(send))
        leaving = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.wait({telling, leaving})
            self._follower.stop(Source.client_disconnected)
            audience.streams.count(audience.caller, -1)
            audience.followers.left(run_id, audience.caller, lost=not self._finished)
        if not telling.cancelled() and (error := telling.exception()) is not None and not isinstance(error, OSError):
            raise error

    async def _iter_frames(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await self._send(send, start)
        if self._first:
            await self._send_body(send, self._first)
        while (frames := await self._frames()) is not None:
            await self._send_body(send, frames)
            await asyncio.sleep(0)
        self._finished = True
        await self._send_body(send, b"", more=False)

    async def _frames(self) -> bytes | None:
        """Return what to send next; None at the end."""
        try:
            async with asyncio.timeout(self._limits.ping):
                events = await self._follower.cursor.get_nowait_async(_BATCH)
        except TimeoutError:
            return _PING
        except ChannelClosed:
            return None
        except DesistError as error:
            self._follower.cursor.end()
            tell: Callable[[Exception], bytes] = getattr(self._frame, "error_frame", error_frame)
            return tell(error)
        return b"".join([self._frame(event) for event in events])

    async def _send_body(self, send: Send, body: bytes, more: bool = True) -> None:
        await self._send(send, {"type": "http.response.body", "body": body, "more_body": more})

    async def _send(self, send: Send, message: Any) -> None:
        """Send, to a client that may be slow, but not for ever."""
        try:
            async with asyncio.timeout(self._limits.patience):
                await send(message)
        except TimeoutError:
            raise ConnectionAbortedError("the client takes nothing") from None


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
