"""MCP over stdin and stdout, for clients that start the server themselves. One process, one client.

When the client is gone, or a signal comes, what still runs is cancelled, and recorded, before the process ends. While
it serves, what programs print goes to standard error: standard output is the protocol's.
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
#: Seconds for the last answers to be written.
CLOSING = 1.0
_CHUNK = 1 << 16


def serve_stdio(workflows: Sequence[Workflow], agents: Sequence[Agent], db: Database | RunStore | None = None) -> int:
    """Serve until the client is gone or a signal comes; return the exit code. Main thread only.

    Raises:
        ConfigurationError: something can't be served.
    """
    service = RunService(Components(workflows, agents, db), Limits())
    return asyncio.run(_serve(service))


async def _serve(service: RunService) -> int:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _set_signal, told, number)
    speaking = asyncio.ensure_future(_serve_connection(service, _redirect_fd(0, os.devnull), _redirect_fd(1, None)))
    first: set[asyncio.Future[Any]] = {speaking, told}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    source, words = Source.client_disconnected, "the client left"
    if told.done():
        by_user = told.result() == signal.SIGINT
        source, words = (Source.interrupt, "Ctrl-C") if by_user else (Source.shutdown, "SIGTERM")
    await service.active_runs.drain(0.0, source, words)
    await asyncio.wait({speaking}, timeout=0 if source is Source.client_disconnected else CLOSING / 10)
    speaking.cancel()
    await asyncio.wait({speaking}, timeout=CLOSING)
    return INTERRUPTED if source is Source.interrupt else 0


def _set_signal(signalled: asyncio.Future[int], number: int) -> None:
    if not signalled.done():
        signalled.set_result(number)


async def _serve_connection(service: RunService, reading: int, writing: int) -> None:
    server = MCPHandler(service, lambda ctx: ANYONE).server()
    given = cast("AsyncFile[str]", _In(reading)), cast("AsyncFile[str]", _Out(writing))
    async with stdio_server(*given) as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _redirect_fd(descriptor: int, to: str | None) -> int:
    """Return a descriptor of what this one led to; from now on it leads to a file, or to standard error."""
    private = os.dup(descriptor)
    other = os.dup(2) if to is None else os.open(to, os.O_RDONLY)
    os.dup2(other, descriptor)
    os.close(other)
    return private


class _In:
    """Lines that are read in threads which a cancel, and the end of the process, leave where they wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        rest = b""
        while chunk := await to_daemon_thread(lambda: os.read(self._descriptor, _CHUNK), "desist-mcp-in"):
            *lines, rest = (rest + chunk).split(b"\n")
            for one in lines:
                yield one.decode("utf-8", "replace")


class _Out:
    """Text that is written in the same way."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        """Write all of it."""
        await to_daemon_thread(lambda: self._write(text.encode()), "desist-mcp-out")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    async def flush(self) -> Any:
        """There is nothing to flush."""
