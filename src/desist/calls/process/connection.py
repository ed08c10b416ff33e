"""The connection to a worker on this loop: one call is sent, frames are received, without a thread."""

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

#: Size in bytes from which a result is unpickled in a worker thread and not on the loop.
LARGE = 262_144

OnItem = Callable[[Any], object]


class WorkerConnection:
    """The connection of one call to its worker. Used on one loop."""

    def __init__(self, worker: WorkerProcess, name: str) -> None:
        self._worker, self._name = worker, name
        self._loop = asyncio.get_running_loop()
        # The descriptor may have the number of a socket that was closed while this loop watched it. The loop would take
        # the new socket for watched, and never report that it is readable.
        self._loop.remove_reader(worker.socket)
        self._loop.remove_writer(worker.socket)

    async def ready(self) -> None:
        """Wait until the worker accepts calls. Raises `EOFError` if it has ended."""
        if not self._worker.ready:
            await self._frame()
            self._worker.ready = True

    async def call(self, call: bytes, main: str | None, run_id: str | None, on_item: OnItem) -> tuple[bytes, bytearray]:
        """Send a call and return the last frame of the answer. Raises `EOFError` if the worker has ended."""
        worker = self._worker
        settings = current_settings()
        extra = {MARK: worker.mark.value}
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
    """Return the result in an answer, or raise its exception."""
    if kind == b"V":
        return await _unpacked(answer, name)
    if kind == b"X":
        raise raised(answer, name)
    if kind == b"U":
        raise ToolError(f"{name!r} failed in its process: {answer.decode()}")
    raise ToolError(f"{name!r} failed: its process received a SIGTERM from outside")


async def _unpacked(body: bytearray, name: str) -> Any:
    if len(body) < LARGE:
        return unpack(body, name)
    return await run_in_thread(lambda: unpack(body, name), name=f"the result of {name}", interrupt="cooperative")


async def worker_died_error(worker: WorkerProcess) -> None:
    """Wait until a killed process has been reaped, so that its status is known."""
    loop = asyncio.get_running_loop()
    reaped: asyncio.Future[None] = loop.create_future()

    def set_result() -> None:
        if not reaped.done():
            reaped.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(set_result)
        except RuntimeError:  # the loop is closed
            pass

    worker.then(wake)
    await reaped
