"""Server-sent events: the events of a run as a response, until the run ends or the client leaves.

A stream holds only its position in the replay log, so a slow client costs no memory. Events are sent in batches, and
the loop runs once between two batches. Comments keep a silent connection alive. A client that reads nothing for
`Limits.patience` seconds is disconnected.
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

__all__ = ["EVENT_STREAM", "EventStream", "StreamLimiter", "client_left", "indexed", "inline"]

EVENT_STREAM = "text/event-stream"
_BATCH = 64  #: events between two turns of the loop
_PING = b": ping\n\n"

Frame = Callable[[Any], bytes]


def indexed(run_id: str) -> Frame:
    """Return the encoder for a stream that a client can resume: frames have `id`, `event_index` and the run's id."""
    return lambda event: _public(sse_frame(event, event.event_index, run_id))


def error_frame(error: Exception) -> bytes:
    """Return the frame that reports an error and ends the stream."""
    return b"event: error\ndata: %b\n\n" % to_json_line({"event": "error", "error": str(error)})


def inline(event: Any) -> bytes:
    """Encode an event without an `id`, for a stream that is not resumed."""
    return _public(sse_frame(event))


def _public(frame: bytes) -> bytes:
    """Return a frame without stacks. The second line of a frame is the event."""
    name, data, rest = frame.split(b"\n", 2)
    return b"\n".join((name, b"data: " + without_stacks(data.removeprefix(b"data: ")), rest))


class StreamLimiter:
    """Limits the open streams of each client. Used on the server's loop only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, caller: Caller) -> None:
        """Refuse another stream if the client has the maximum open.

        Raises:
            HTTPProblem: 429.
        """
        if self._open[caller.key] >= self._most:
            raise HTTPProblem(
                429, f"this client has {self._most} streams open already: close one first", {"Retry-After": "1"}
            )

    def count(self, caller: Caller, by: int) -> None:
        """Count a stream as opened (`by` is 1) or closed (-1)."""
        self._open[caller.key] += by
        if not self._open[caller.key]:
            del self._open[caller.key]


@dataclass(slots=True, kw_only=True)
class StreamContext:
    """The counters that a stream updates when it opens and closes."""

    followers: FollowerTracker
    streams: StreamLimiter
    caller: Caller
    starts: bool = False  #: the client counts as the one that started the run; see `desist.server.disconnects`


class EventStream(Response):
    """The response with the events of a run."""

    media_type = EVENT_STREAM

    def __init__(
        self, follower: Follower[Any], frame: Frame, *, limits: Limits, context: StreamContext, retry: bool = True
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._follower, self._frame, self._limits, self._context = follower, frame, limits, context
        self._first = b"retry: %d\n\n" % int(limits.retry * 1000) if retry else b""
        self._finished = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the run ends or the client leaves."""
        context, run_id = self._context, self._follower.run_id
        context.streams.count(context.caller, 1)
        context.followers.joined(run_id, context.caller, starts=context.starts)
        sending = asyncio.ensure_future(self._send_events(send))
        leaving = asyncio.ensure_future(client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
            self._follower.stop(Source.client_disconnected)
            context.streams.count(context.caller, -1)
            context.followers.left(run_id, context.caller, lost=not self._finished)
        if not sending.cancelled() and (error := sending.exception()) is not None and not isinstance(error, OSError):
            raise error

    async def _send_events(self, send: Send) -> None:
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
        """Return the next bytes to send, or None at the end."""
        try:
            async with asyncio.timeout(self._limits.ping):
                events = await self._follower.cursor.get_nowait_async(_BATCH)
        except TimeoutError:
            return _PING
        except ChannelClosed:
            return None
        except DesistError as error:
            self._follower.cursor.end()
            encode: Callable[[Exception], bytes] = getattr(self._frame, "error_frame", error_frame)
            return encode(error)
        return b"".join([self._frame(event) for event in events])

    async def _send_body(self, send: Send, body: bytes, more: bool = True) -> None:
        await self._send(send, {"type": "http.response.body", "body": body, "more_body": more})

    async def _send(self, send: Send, message: Any) -> None:
        """Send a message. Raises ConnectionAbortedError if the client reads nothing for `Limits.patience` seconds."""
        try:
            async with asyncio.timeout(self._limits.patience):
                await send(message)
        except TimeoutError:
            raise ConnectionAbortedError("the client reads nothing") from None


async def client_left(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
