"""The child process: who may ask it, and what becomes of it when somebody dies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from desist.exceptions import ConfigurationError, ModelError
from desist.models.local.server import LocalServer, ServerSettings

pytestmark = pytest.mark.local


def _gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process is gone, or a zombie that somebody else must reap, before the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_a_key_is_required(server: LocalServer) -> None:
    """Without the random key the server answers 401; other web pages' origins aren't let in; argv has no key."""
    import httpx2

    address = server.ensure_blocking()
    url = f"{address.base_url}/models"
    with httpx2.Client(trust_env=False) as client:
        assert client.get(url).status_code == 401
        answer = client.get(
            url, headers={"Authorization": f"Bearer {address.api_key}", "Origin": "http://evil.example"}
        )
    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin") != "http://evil.example"
    assert server.pid is not None
    assert address.api_key not in " ".join(psutil.Process(server.pid).cmdline())


def test_equal_settings_share_one_child(server: LocalServer) -> None:
    """All who ask with the same settings, from any thread or loop, get the same child."""

    async def ask() -> Any:
        return await asyncio.gather(*(LocalServer.shared(ServerSettings()).ensure() for _ in range(5)))

    assert set(asyncio.run(ask())) == {server.ensure_blocking()}


def test_a_cancel_while_it_loads_leaves_it_warm(server: LocalServer) -> None:
    """A cancelled wait ends at once; the start goes on, and its child serves the next caller."""

    async def scene() -> None:
        server.stop()
        waiting = asyncio.ensure_future(server.ensure())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.ensure()
        assert server.pid is not None

    asyncio.run(scene())


def test_stop_while_it_loads_leaves_nothing(server: LocalServer) -> None:
    """`stop` during a start kills the child; who waited is told so."""

    async def scene() -> None:
        server.stop()
        waiting = asyncio.ensure_future(server.ensure())
        await asyncio.sleep(0)
        server.stop()
        with pytest.raises(ModelError, match="stopped while it loaded"):
            await waiting
        assert server.pid is None

    asyncio.run(scene())


def test_a_taken_port_is_refused() -> None:
    """A port that another program listens on is refused by number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            LocalServer(ServerSettings(port=port)).ensure_blocking()


PARENT = """
import os, sys, time
from desist.models.local.server import LocalServer, ServerSettings
server = LocalServer.shared(ServerSettings())
server.ensure_blocking()
pid, fork = server.pid, 0
if "fork" in sys.argv:
    fork = os.fork()
    if fork == 0:
        assert server.pid is None
        time.sleep(120)
        os._exit(0)
print(pid, fork, flush=True)
if "exit" not in sys.argv:
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill", "fork", "exit"])
def test_the_child_dies_with_its_parent(how: str) -> None:
    """After kill -9 of the parent, also with a forked-off program alive, and after a plain exit, the child is gone."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARENT, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child, fork = map(int, parent.stdout.readline().split())
        if how != "exit":
            parent.kill()
        parent.wait()
        try:
            assert _gone(child)
        finally:
            if fork:
                os.kill(fork, signal.SIGKILL)
