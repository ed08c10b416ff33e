"""`serve`: the server as a process of its own. It listens, says so, and ends in order when it is told to.

SIGTERM: no new runs (503); those that live may end by themselves until a deadline, then they are cancelled with source
`shutdown`, their ends stored and told; exit code 0. Ctrl-C: the same without the waiting, with source `interrupt`.
A second signal ends the waiting, a third one everything.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from types import FrameType
from typing import Any, TextIO

import uvicorn
from fastapi import FastAPI

from desist.cancel.reason import Source
from desist.exceptions import ConfigurationError
from desist.server.guard import is_loopback

__all__ = ["serve"]

INTERRUPTED = 130
#: Seconds for open connections to end, once all runs have.
CLOSING = 5


def serve(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    secured: bool = False,
    drain: float = 30.0,
    out: TextIO | None = None,
) -> int:
    """Serve an application of `create_app` until a signal ends it; return the exit code. Main thread only.

    Parameters:
        host, port: where to listen; port 0 for any that is free.
        secured: whether the application has tokens. Without, any host but this machine's own is refused.
        drain: seconds that live runs may go on after SIGTERM.
        out: where it says where it listens; None for standard error.

    Raises:
        ConfigurationError: it would be open to others without tokens.
    """
    if not secured and not is_loopback(host):
        raise ConfigurationError(f"host={host!r} is open to other machines: give tokens, or serve on 127.0.0.1")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSING,
    )
    server = _Server(config, app.state.core.house, drain, secured, out or sys.stderr)
    server.run()
    return INTERRUPTED if server.interrupted else 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn, but signals drain the runs first."""

    def __init__(self, config: uvicorn.Config, house: Any, drain: float, secured: bool, out: TextIO) -> None:
        super().__init__(config)
        self._house, self._drain, self._secured, self._out = house, drain, secured, out
        self._told = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self.interrupted = False

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"desist serves on http://{shown}:{port}", file=self._out, flush=True)
        if not self._secured and self.servers:
            print("no tokens: whoever is on this machine may start and stop runs", file=self._out, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. Called between two byte codes of whatever the loop is at."""
        self._told += 1
        if self._loop is None or self._told > 2:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._leave, sig)

    def _leave(self, sig: int) -> None:
        if self._draining is not None:
            self._house.hurry()
            return
        self.interrupted = sig == signal.SIGINT
        self._draining = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        source, words = (Source.interrupt, "Ctrl-C") if self.interrupted else (Source.shutdown, "SIGTERM")
        try:
            await self._house.drain(0.0 if self.interrupted else self._drain, source, words)
        finally:
            self.should_exit = True
