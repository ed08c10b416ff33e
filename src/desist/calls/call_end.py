"""The end of a call with all that it had started, and the loop that may wait for that."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING

from desist.runtime.loop_waker import waker_for

if TYPE_CHECKING:
    from desist.calls.base import Call

__all__ = ["CallEnd", "release_frames"]


class CallEnd:
    """Whether a call has ended. `reached` is called once, from any thread; `wait` on the thread of the loop.

    `reached` sets `ended` before it reads the waiter, and `wait` sets the waiter before it reads `ended`: one of the
    two sees the other.
    """

    __slots__ = ("_loop", "_waiter", "ended")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False

    def reached(self, call: Call) -> None:
        """Note the end, notify the owner of the call, then wake the loop."""
        self.ended = True
        if call.owner is not None:
            call.owner.call_ended(call)
        if self._waiter is not None:
            waker_for(self._loop).call_soon(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait for the end, at most `seconds`."""
        self._waiter = self._loop.create_future()
        if not self.ended:
            await asyncio.wait([self._waiter], timeout=seconds)


def release_frames(error: BaseException) -> None:
    """Let go of what the frames of a cancelled call refer to, such as a stream that its code hasn't closed.

    The exception may be kept for long by whoever cancelled, and by circles of references through these frames. In the
    thread in which the code has ended: what the frames alone have kept is finalized here.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__
