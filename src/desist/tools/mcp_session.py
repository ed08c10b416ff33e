"""A session with an MCP server. One task on one loop enters and exits the session; any loop may call its tools.

Called by `MCPTools`. The session starts the server if it is a command, and kills all processes that the server has
started: they are recognised by a variable in their environment, even in another process group or session.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import select
import subprocess
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import psutil

from desist.calls.started.started_work import set_started_work
from desist.runtime.background_loop import background_loop, register_at_exit
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["MCPSession", "by_command", "by_url"]

T = TypeVar("T")

MARK = "DESIST_MCP_SERVER"
#: Seconds to wait for a server to end by itself after its session has ended, before its processes are killed.
GRACE = 1.0
#: Seconds to wait for the session's task after the kill.
EXIT_TIMEOUT = 5.0
#: How many times to search for processes, because new ones may start while others are killed.
ROUNDS = 5

_open: weakref.WeakSet[MCPSession] = weakref.WeakSet()


class MCPSession:
    """One session.

    Parameters:
        make: returns a context manager whose value has `list_tools` and `call_tool`, like a client of the SDK.
        loop: the loop of the session's task; None for the background loop.
        mark: value of the environment variable that identifies the server's processes; None if there are none.
    """

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        mark: str | None = None,
    ) -> None:
        self._make, self._loop, self._mark = make, loop or background_loop.loop(), mark
        self._leave = asyncio.Event()
        self._living: Any = None
        self._client: Any = None

    async def enter(self) -> list[Any]:
        """Start the session and return the server's tools. If cancelled, end the session and its server."""
        opened: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        here = asyncio.get_running_loop()

        def set_result(tools: list[Any] | None, error: BaseException | None) -> None:
            if not opened.done():
                opened.set_result(tools or []) if error is None else opened.set_exception(error)

        def on_connected(tools: list[Any] | None, error: BaseException | None) -> None:
            try:
                here.call_soon_threadsafe(set_result, tools, error)
            except RuntimeError:  # the caller's loop is closed, so there is no waiter
                pass

        _open.add(self)
        self._living = asyncio.run_coroutine_threadsafe(self._live(on_connected), self._loop)
        try:
            return await opened
        except BaseException:
            self._living.cancel()
            await self.leave()
            raise

    async def _live(self, on_connected: Callable[[list[Any] | None, BaseException | None], None]) -> None:
        try:
            async with self._make() as client:
                tools = await _all_tools(client)
                self._client = client
                on_connected(tools, None)
                await self._leave.wait()
        except Exception as error:
            on_connected(None, error)
        finally:
            self._client = None

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool. A cancel ends the call at once and notifies the server."""
        return await self._there(self._call(name, arguments))

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if self._client is None:
            raise ConnectionError("the session has ended")
        return await self._client.call_tool(name, arguments)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the session's loop. A cancellation is passed on to the coroutine, once.

        The task is not what the call has started: then it would be cancelled a second time, while the client notifies
        the server of the first.
        """
        context = contextvars.copy_context()
        context.run(set_started_work, None)
        return await asyncio.wrap_future(context.run(asyncio.run_coroutine_threadsafe, work, self._loop))

    async def leave(self) -> None:
        """End the session and its server. Return when all processes have ended. Does nothing before `enter`."""
        living, self._client = self._living, None
        if living is None:
            return
        over = asyncio.wrap_future(living)
        try:
            self._loop.call_soon_threadsafe(self._leave.set)
        except RuntimeError:  # the session's loop is closed, and the session with it
            return
        try:
            await asyncio.wait({over}, timeout=GRACE)
            await to_daemon_thread(self.kill, "desist-mcp-kill")
            await asyncio.wait({over}, timeout=EXIT_TIMEOUT)
        except BaseException:
            self.kill()
            raise
        finally:
            _open.discard(self)

    def end_now(self) -> None:
        """End the session from another thread at the end of the program, without waiting for the server."""
        try:
            self._loop.call_soon_threadsafe(self._leave.set)
        except RuntimeError:
            return
        self.kill()
        concurrent.futures.wait([self._living], timeout=GRACE)

    def kill(self) -> None:
        """Kill the server's processes, including those that they start meanwhile. Blocks until they have ended."""
        for _ in range(ROUNDS if self._mark is not None else 0):
            found = _marked(self._mark)
            if not found:
                return
            for process in found:
                try:
                    process.kill()
                except psutil.Error:
                    pass
            for process in found:
                _await_end(process.pid)


def _await_end(pid: int) -> None:
    """Wait until a killed process has ended. The exit status is left for the parent process to collect."""
    if not hasattr(os, "pidfd_open"):
        _poll_end(pid)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        select.select([descriptor], [], [], GRACE)
    finally:
        os.close(descriptor)


def _poll_end(pid: int) -> None:
    """Do the same on a system that can't wake a thread for it."""
    until = time.monotonic() + GRACE
    try:
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.01)
    except psutil.Error:  # the process has ended
        pass


def _marked(mark: str | None) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _mark_of(process) == mark]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK) if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None  # ended, or owned by another user


def _end_all() -> None:
    for session in list(_open):
        session.end_now()


register_at_exit(_end_all)


async def _all_tools(client: Any) -> list[Any]:
    found, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor) if cursor is not None else await client.list_tools()
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found


def by_command(command: list[str], env: dict[str, str]) -> tuple[Callable[[], Any], str]:
    """Return a `make` that starts a server, and the mark of the server's processes."""
    mark = uuid.uuid4().hex

    def make() -> Any:
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(command=command[0], args=command[1:], env={**env, MARK: mark})
        errors: Any = subprocess.DEVNULL if not _has_stderr() else 2
        return Client(stdio_client(parameters, errlog=errors))

    return make, mark


def _has_stderr() -> bool:
    try:
        os.fstat(2)
    except OSError:
        return False
    return True


def by_url(url: str, headers: dict[str, str], transport: str) -> Callable[[], Any]:
    """Return a `make` that connects to a server over HTTP."""

    @asynccontextmanager
    async def entered() -> AsyncIterator[Any]:
        from mcp import Client
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client

        if transport == "sse":
            async with Client(sse_client(url, headers=headers)) as client:
                yield client
            return
        async with (
            create_mcp_http_client(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client

    return entered
