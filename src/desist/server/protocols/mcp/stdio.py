"""MCP over stdin and stdout, for clients that start the server themselves. One process serves one client.

When the client disconnects or a signal arrives, live runs are cancelled and stored before the process ends. While it
serves, output of user code goes to standard error, because standard output belongs to the protocol.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from anyio import AsyncFile
from mcp.server.stdio import stdio_server

from desist.agent.agent import Agent
from desist.cancel.reason import Source
from desist.run.storage.store import Database, RunStore
from desist.runtime.daemon_thread import to_daemon_thread
from desist.server.components import Components
from desist.server.protocols.mcp.handler import MCPHandler
from desist.server.run_service import RunService
from desist.server.settings import Limits
from desist.server.tokens import ANYONE
from desist.workflow.workflow import Workflow

__all__ = ["serve_stdio"]

INTERRUPTED = 130
#: Seconds for the last responses to be written.
CLOSING = 1.0
_CHUNK = 1 << 16


def serve_stdio(workflows: Sequence[Workflow], agents: Sequence[Agent], db: Database | RunStore | None = None) -> int:
    """Serve until the client disconnects or a signal arrives. Return the exit code. Main thread only.

    Raises:
        ConfigurationError: a component can't be served.
    """
    service = RunService(Components(workflows, agents, db), Limits())
    return asyncio.run(_serve(service))


async def _serve(service: RunService) -> int:
    loop = asyncio.get_running_loop()
    signalled: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _set_signal, signalled, number)
    serving = asyncio.ensure_future(_serve_connection(service, _redirect_fd(0, os.devnull), _redirect_fd(1, None)))
    first: set[asyncio.Future[Any]] = {serving, signalled}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    source, text = Source.client_disconnected, "the client disconnected"
    if signalled.done():
        by_user = signalled.result() == signal.SIGINT
        source, text = (Source.interrupt, "Ctrl-C") if by_user else (Source.shutdown, "SIGTERM")
    await service.active_runs.drain(0.0, source, text)
    await asyncio.wait({serving}, timeout=0 if source is Source.client_disconnected else CLOSING / 10)
    serving.cancel()
    await asyncio.wait({serving}, timeout=CLOSING)
    return INTERRUPTED if source is Source.interrupt else 0


def _set_signal(signalled: asyncio.Future[int], number: int) -> None:
    if not signalled.done():
        signalled.set_result(number)


async def _serve_connection(service: RunService, reading: int, writing: int) -> None:
    server = MCPHandler(service, lambda ctx: ANYONE).server()
    given = cast("AsyncFile[str]", _LineReader(reading)), cast("AsyncFile[str]", _TextWriter(writing))
    async with stdio_server(*given) as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _redirect_fd(descriptor: int, to: str | None) -> int:
    """Redirect a descriptor to a file, or to standard error if `to` is None. Return a duplicate of the original."""
    private = os.dup(descriptor)
    other = os.dup(2) if to is None else os.open(to, os.O_RDONLY)
    os.dup2(other, descriptor)
    os.close(other)
    return private


class _LineReader:
    """Lines from a descriptor, read in daemon threads. A cancel, or the end of the process, does not wait for them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        rest = b""
        while chunk := await to_daemon_thread(lambda: os.read(self._descriptor, _CHUNK), "desist-mcp-in"):
            *lines, rest = (rest + chunk).split(b"\n")
            for one in lines:
                yield one.decode("utf-8", "replace")


class _TextWriter:
    """Text to a descriptor, written in daemon threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write the whole text."""
        await to_daemon_thread(lambda: self._write(text.encode()), "desist-mcp-out")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    async def flush(self) -> Any:
        """Do nothing: `write` does not buffer."""
