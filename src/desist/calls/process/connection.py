"""A conversation with a worker on this loop: the call goes out, frames come in, without a thread."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

from desist.calls.process.protocol import HEAD, frame, raised, unpack
from desist.calls.process.worker_process import MARK, WorkerProcess, current_settings
from desist.calls.thread_pool import run_in_thread
from desist.exceptions import ToolError

__all__ = ["OnItem", "WorkerConnection", "answer_value", "worker_died_error"]

#: Bytes of a result from which it isn't unpickled on the loop.
LARGE = 262_144

OnItem = Callable[[Any], object]


class WorkerConnection:
    """Asks a worker and listens to it."""

    def __init__(self, worker: WorkerProcess, name: str) -> None:
        self._worker, self._name = worker, name
        self._loop = asyncio.get_running_loop()
        # Its number may be that of a socket which was closed while this loop listened at it. The loop would take that
        # for listening, and hear nothing for ever.
        self._loop.remove_reader(worker.socket)
        self._loop.remove_writer(worker.socket)

    async def ready(self) -> None:
        """Wait until the worker can be asked. Raises `EOFError` if it has ended instead."""
        if not self._worker.ready:
            await self._frame()
            self._worker.ready = True

    async def call(self, call: bytes, main: str | None, run_id: str | None, on_item: OnItem) -> tuple[bytes, bytearray]:
        """Send a call and return the last frame of the answer. Raises `EOFError` if there is none."""
        worker = self._worker
        settings = current_settings()
        extra = {MARK: worker.mark}
        if run_id is not None:
            extra["DESIST_PARENT_RUN_ID"] = run_id
        changed = None if settings == worker.settings else settings
        worker.settings = settings
        request = frame(b"C", pickle.dumps((changed, extra, main, call), protocol=5))
        try:
            await self._loop.sock_sendall(worker.socket, request)
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError from None
        while True:
            kind, body = await self._frame()
            if kind != b"I":
                return kind, body
            on_item(await _unpacked(body, self._name))

    async def _frame(self) -> tuple[bytes, bytearray]:
        kind, length = HEAD.unpack(await self._exactly(HEAD.size))
        return kind, await self._exactly(length)

    async def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view, got = memoryview(data), 0
        while got < length:
            try:
                count = await self._loop.sock_recv_into(self._worker.socket, view[got:])
            except OSError:
                count = 0
            if not count:
                raise EOFError
            got += count
        return data


async def answer_value(kind: bytes, answer: bytearray, name: str) -> Any:
    """Return what an answer says, or raise it."""
    if kind == b"V":
        return await _unpacked(answer, name)
    if kind == b"X":
        raise raised(answer, name)
    if kind == b"U":
        raise ToolError(f"{name!r} failed in its process: {answer.decode()}")
    raise ToolError(f"{name!r} failed: its process was told to end by a SIGTERM from outside")


async def _unpacked(body: bytearray, name: str) -> Any:
    if len(body) < LARGE:
        return unpack(body, name)
    return await run_in_thread(lambda: unpack(body, name), name=f"the result of {name}", interrupt="cooperative")


async def worker_died_error(worker: WorkerProcess) -> None:
    """Wait until a process that was told to end is gone, and how it ended is known."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def set_result() -> None:
        if not over.done():
            over.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(set_result)
        except RuntimeError:  # the loop is closed
            pass

    worker.then(wake)
    await over
