"""The network under a call: connect, look-up, TLS and pool under cancels, and what is left over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from http_cancel_points import Gate, at_headers, run_until_reached, when_stalled
from http_dialects import Speech
from http_raw_server import DONE, SSE_HEAD, STOP, Connection, answering, serving, text
from http_requests import asking, collect, connecting, said, until

from desist.cancel.token import CancelToken, use_token
from desist.cancel.upstream import upstream
from desist.exceptions import RunCancelled
from desist.models.http.clients import http_client


def test_a_shutdown_reaches_a_connection_that_was_used_before(speech: Speech) -> None:
    """The second request on a pooled connection is as reachable as the first, with the loop blocked."""
    gate, token = Gate(), CancelToken()

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(speech.text("x"), speech.almost, speech.end)
        at_headers(gate, speech)(connection)

    async def main(url: str) -> bool:
        await collect(speech.at(url))
        task = await run_until_reached(speech.at(url), gate, token)
        threading.Thread(target=token.cancel).start()
        seen = gate.left.wait(10)  # blocks the loop
        with pytest.raises(RunCancelled):
            await task
        return seen

    with serving(script) as server:
        assert asyncio.run(main(server.url))
        assert server.connections == 1


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's socket table")
@pytest.mark.parametrize("by_token", [False, True])
def test_a_cancel_ends_a_connect(speech: Speech, by_token: bool) -> None:
    """A listener that accepts nobody: the connect ends at once and its socket is gone."""
    token = CancelToken()

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(4):  # fills the backlog; the rest of them waits
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            before = connecting(port)

            async def run() -> None:
                with use_token(token):
                    await collect(speech.at(f"http://127.0.0.1:{port}/v1", max_retries=2))

            task = asyncio.create_task(run())
            await until(lambda: connecting(port) > before, "the connect")
            if by_token:
                threading.Thread(target=token.cancel).start()
            else:
                task.cancel()
            with pytest.raises(RunCancelled if by_token else asyncio.CancelledError):
                await task
            await until(lambda: connecting(port) == before, "the socket's end")

    asyncio.run(main())


def test_a_cancel_ends_a_name_look_up(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that never answers is left alone; the loop doesn't wait for it at its end."""
    asked, never = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        asked.set()
        never.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def main() -> None:
        task = asyncio.create_task(collect(speech.at("http://slow.example/v1")))
        await until(asked.is_set, "the look-up")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(main())
    never.set()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("by_token", [False, True])
def test_a_cancel_in_a_tls_handshake_closes_the_socket(speech: Speech, by_token: bool) -> None:
    """A server that takes the client's hello and says nothing sees the connection close, the exception kept or not."""
    gate, token = Gate(), CancelToken()

    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        gate.hang(connection)

    async def main(port: int) -> None:
        client = http_client(ssl_context=ssl.create_default_context())
        model = speech.at(f"https://127.0.0.1:{port}/v1", http_client=client, max_retries=2)
        task = await run_until_reached(model, gate, token)
        if by_token:
            threading.Thread(target=token.cancel).start()
        else:
            task.cancel()
        with pytest.raises(RunCancelled if by_token else asyncio.CancelledError):
            await task
        await until(gate.left.is_set, "the close")
        await client.aclose()

    with serving(script) as server:
        asyncio.run(main(server.port))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context, and the file of the authority that signed it."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return context, path


def test_tls_with_an_authority_of_the_environment(
    speech: Speech, authority: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names whom to trust; the connection is used again, and a cancel closes it."""
    context, path = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    gate = Gate()

    def script(connection: Connection) -> None:
        for _ in range(3):
            connection.request()
            connection.stream(speech.text("x"), speech.almost, speech.end)
        when_stalled(gate, speech)(connection)

    async def main(url: str) -> None:
        for _ in range(3):
            await collect(speech.at(url))
        task = await run_until_reached(speech.at(url), gate, CancelToken())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(gate.left.is_set, "the close")

    with serving(script, context) as server:
        asyncio.run(main(server.url))
        assert server.connections == 1


def test_tls_without_trust_is_refused(speech: Speech, authority: tuple[ssl.SSLContext, Path]) -> None:
    """An unknown authority: an error that says so."""
    with (
        serving(answering(speech.text("x"), speech.almost, speech.end), authority[0]) as server,
        pytest.raises(Exception, match="certificate verify failed"),
    ):
        asyncio.run(collect(speech.at(server.url)))


def test_a_late_cancel_does_not_harm_the_next_request(speech: Speech) -> None:
    """A token cancelled after its answer leaves the pooled connection alone."""

    async def main(url: str) -> None:
        for _ in range(20):
            token = CancelToken()
            with use_token(token):
                await collect(speech.at(url))
            token.cancel()
        await collect(speech.at(url))

    with serving(answering(speech.text("x"), speech.almost, speech.end)) as server:
        asyncio.run(main(server.url))
        assert server.connections == 1


def test_a_finished_response_lets_go_of_its_connection() -> None:
    """Inside the block of its request still: once the body is over, a shutdown finds nothing, and the next request
    uses the same connection."""

    async def main(url: str) -> None:
        async with http_client() as client:
            for _ in range(3):
                with upstream() as connection:
                    async with client.stream("POST", url, json={}) as response:
                        await response.aread()
                    connection.shutdown()
                    assert connection.closed == 0

    with serving(answering(text("x"), STOP, DONE)) as server:
        asyncio.run(main(server.url))
        assert server.connections == 1


def test_a_cancel_while_a_long_prompt_is_sent(speech: Speech) -> None:
    """A server that doesn't read: 50 MB wait in the socket; the connection still ends at once."""
    gate = Gate()

    def script(connection: Connection) -> None:
        connection.sock.recv(100)
        gate.reached.set()
        gate.left.wait(20)
        while connection.sock.recv(1 << 20):
            pass

    async def main(url: str) -> None:
        request = asking("x" * 50_000_000)
        task = asyncio.create_task(collect(speech.at(url), request))
        await until(gate.reached.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.left.set()

    with serving(script) as server:
        asyncio.run(main(server.url))
        for thread in server._threads:
            thread.join(10)
            assert not thread.is_alive(), "the connection is still open"


def _open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_the_pool_is_healthy_after_200_cancels_at_random_moments(speech: Speech) -> None:
    """Tasks cancelled, tokens cancelled, both: afterwards requests succeed, and no file stays open."""
    chance = random.Random(7)
    noise: list[dict[str, Any]] = []

    def script(connection: Connection) -> None:
        while connection.request():
            connection.send(SSE_HEAD)
            for _ in range(20):
                connection.chunk(speech.text("word "))
            connection.chunk(speech.almost + speech.end)
            connection.end()

    async def one(url: str) -> None:
        token = CancelToken()

        async def run() -> None:
            with use_token(token):
                await collect(speech.at(url, max_retries=1))

        task = asyncio.create_task(run())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.004)
        how = chance.randrange(3)
        if how:
            await asyncio.to_thread(token.cancel)
        if how != 1:
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=20)
        assert done, "a cancelled call didn't end"
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, RunCancelled), repr(error)

    async def main(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        for _ in range(10):
            await asyncio.gather(*(one(url) for _ in range(20)))
        answers = await asyncio.gather(*(collect(speech.at(url)) for _ in range(5)))
        assert [said(pieces) for pieces in answers] == ["word " * 20] * 5

    before = _open_files()
    with serving(script) as server:
        asyncio.run(main(server.url))
    assert _open_files() <= before
    assert noise == []
