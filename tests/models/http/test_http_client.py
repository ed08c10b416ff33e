"""Clients live as long as their loop: shared inside it, closed with it."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from http_raw_server import DONE, STOP, Connection, answering, serving, text
from http_requests import chat, collect, connecting, until

from desist.models.http import clients
from desist.models.http.connect import Address, _in_turns, connect
from desist.models.http.sdk import Sdk


def test_equal_settings_share_a_client() -> None:
    """Fifty first calls at once make one client; another key makes another on the same pool."""

    async def main(url: str) -> None:
        await asyncio.gather(*(collect(chat(url)) for _ in range(50)))
        await collect(chat(url, api_key="other"))
        home = clients._clients_of_loop[asyncio.get_running_loop()]
        assert (len(home.clients), len(home.pools)) == (2, 1)

    with serving(answering(text("x"), STOP, DONE)) as server:
        asyncio.run(main(server.url))


def test_many_keys_do_not_pile_up() -> None:
    """A program with a key for each user keeps a bounded number of clients."""

    async def main(url: str) -> None:
        for n in range(clients.MAX_CLIENTS + 5):
            await clients.client_for(clients.Settings(sdk=Sdk.openai, base_url=url, api_key=str(n)))
        assert len(clients._clients_of_loop[asyncio.get_running_loop()].clients) == clients.MAX_CLIENTS

    asyncio.run(main("http://127.0.0.1:1/v1"))


def test_a_loop_that_ends_closes_its_connections() -> None:
    """After `asyncio.run` the server has seen the idle connection close, and nothing of the loop is kept."""
    closed = threading.Event()
    before = len(clients._clients_of_loop)  # the home loop may have some, of tests before this one

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(text("x"), STOP, DONE)
        if connection.gone():
            closed.set()

    with serving(script) as server:
        for _ in range(3):
            closed.clear()
            asyncio.run(collect(chat(server.url)))
            assert closed.wait(10)
    until = time.monotonic() + 10  # a thread that has just ended may hold a frame a moment longer
    while len(clients._clients_of_loop) > before and time.monotonic() < until:
        gc.collect()
    assert len(clients._clients_of_loop) <= before


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    """An idle connection that has ended is noticed before the next request."""
    gone = threading.Event()

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(text("x"), STOP, DONE)
        connection.sock.close()
        gone.set()

    async def main(url: str) -> None:
        for _ in range(3):
            gone.clear()
            assert len(await collect(chat(url))) == 2
            await until(gone.is_set)

    with serving(script) as server:
        asyncio.run(main(server.url))
        assert server.connections == 3


def test_families_take_turns() -> None:
    """The resolver's first family first, then the other, in turns."""
    six = [Address(socket.AF_INET6, (f"::{n}", 1)) for n in range(3)]
    four = [Address(socket.AF_INET, ("127.0.0.1", 1))]
    assert _in_turns(six + four) == [six[0], four[0], six[1], six[2]]


def test_a_dead_address_costs_one_stagger() -> None:
    """Of a refusing and a listening address the second is used, whichever comes first; no socket is left over."""

    async def main(port: int, dead: int) -> None:
        good, bad = Address(socket.AF_INET, ("127.0.0.1", port)), Address(socket.AF_INET, ("127.0.0.1", dead))
        for addresses in ([bad, good], [good, bad], [bad, bad, good]):
            with await connect(addresses) as sock:
                assert sock.getpeername()[1] == port
        with pytest.raises(ConnectionRefusedError):
            await connect([bad, bad])

    with socket.create_server(("127.0.0.1", 0)) as dead_listener:
        dead = dead_listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(main(listener.getsockname()[1], dead))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's socket table")
def test_a_silent_address_is_overtaken() -> None:
    """An address that doesn't answer is overtaken by the next; the loser's socket is closed."""

    async def main(silent: Any, port: int) -> None:
        good, bad = Address(socket.AF_INET, ("127.0.0.1", port)), Address(socket.AF_INET, silent)
        before = connecting(silent[1])
        with await connect([bad, good]) as sock:
            assert sock.getpeername()[1] == port
        await until(lambda: connecting(silent[1]) == before, "the loser's end")

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_server(("127.0.0.1", 0)) as good:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        asyncio.run(main(full.getsockname(), good.getsockname()[1]))
        for filler in fillers:
            filler.close()
