"""A session with an MCP server, entered and left by one task on one loop, used from any.

Called by `MCPTools`. It starts the server if that is a command, and ends all that the server started: each process is
known by a mark in its environment, whatever group or session it has put itself into.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import select
import subprocess
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import psutil

from desist.runtime.background_loop import background_loop, register_at_exit
from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["MCPSession", "by_command", "by_url"]

T = TypeVar("T")

MARK = "DESIST_MCP_SERVER"
#: Seconds that a server may take to end when its session has ended; then it is killed.
GRACE = 1.0
#: Seconds after which a session that isn't left by then is given up.
PATIENCE = 5.0
#: How often it is looked for processes that were started while others were killed.
ROUNDS = 5

_open: weakref.WeakSet[MCPSession] = weakref.WeakSet()


class MCPSession:
    """One session.

    Parameters:
        make: returns what is entered: a client of the SDK, or what has its `list_tools` and `call_tool`.
        loop: where it lives; None for the home loop.
        mark: of the processes that belong to it.
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
        """Begin it; return the tools. A cancel on the way leaves nothing behind."""
        opened: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        here = asyncio.get_running_loop()

        def set_result(tools: list[Any] | None, error: BaseException | None) -> None:
            if not opened.done():
                opened.set_result(tools or []) if error is None else opened.set_exception(error)

        def on_connected(tools: list[Any] | None, error: BaseException | None) -> None:
            try:
                here.call_soon_threadsafe(set_result, tools, error)
            except RuntimeError:  # that loop is closed: nobody waits
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
        """Call a tool. A cancel leaves the call at once, and tells the server."""
        return await self._there(self._call(name, arguments))

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if self._client is None:
            raise ConnectionError("the session has ended")
        return await self._client.call_tool(name, arguments)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the session's loop. A cancellation goes along."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def leave(self) -> None:
        """End it, and its server; return when all processes are gone. May be called again."""
        living, self._client = self._living, None
        if living is None:
            return
        over = asyncio.wrap_future(living)
        try:
            self._loop.call_soon_threadsafe(self._leave.set)
        except RuntimeError:  # the loop it lived on is closed, and so is what it had there
            return
        try:
            await asyncio.wait({over}, timeout=GRACE)
            await to_daemon_thread(self.kill, "desist-mcp-kill")
            await asyncio.wait({over}, timeout=PATIENCE)
        except BaseException:
            self.kill()
            raise
        finally:
            _open.discard(self)

    def end_now(self) -> None:
        """End it from another thread, without waiting for its server: the program ends."""
        try:
            self._loop.call_soon_threadsafe(self._leave.set)
        except RuntimeError:
            return
        self.kill()
        concurrent.futures.wait([self._living], timeout=GRACE)

    def kill(self) -> None:
        """Kill the processes that belong to it, and those that they start meanwhile."""
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
    """Wait until a killed process has ended. Its exit status is left for whoever has started it."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        select.select([descriptor], [], [], GRACE)
    finally:
        os.close(descriptor)


def _marked(mark: str | None) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _mark_of(process) == mark]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK) if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None  # gone, or another user's


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
    """Return what enters a session with a server that is started, and the mark of its processes."""
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
    """Return what enters a session with a server that is asked over HTTP."""

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
