"""A cancel at any moment of a call closes its connection at once, and is never taken for an error or an answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from http_cancel_points import MOMENTS, Gate, at_headers, mid_stream, run_until_reached, when_stalled
from http_dialects import Speech
from http_raw_server import Connection, serving
from http_requests import asking, collect, until

from desist.cancel.reason import CancelReason, Source
from desist.cancel.token import CancelToken, use_token
from desist.exceptions import RunCancelled
from desist.models.http import clients

WHY = CancelReason(source=Source.user, text="enough")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancelled_task_closes_its_connection(moment: Callable[..., Any], speech: Speech) -> None:
    """`task.cancel()` at any moment: CancelledError comes out, the server sees the end, nothing is asked again."""
    gate = Gate()

    async def main(url: str) -> None:
        task = await run_until_reached(speech.at(url, max_retries=3), gate, CancelToken())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(gate.left.is_set, "the close")

    with serving(moment(gate, speech)) as server:
        asyncio.run(main(server.url))
    assert gate.requests == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_shutdown_from_a_thread_comes_out_as_run_cancelled(moment: Callable[..., Any], speech: Speech) -> None:
    """The canceller's thread shuts the socket; the read error is a RunCancelled with its reason: no ModelError,
    no completed answer, no retry."""
    gate, token = Gate(), CancelToken()

    async def main(url: str) -> None:
        task = await run_until_reached(speech.at(url, max_retries=3), gate, token)
        canceller = threading.Thread(target=token.cancel, args=(WHY,))
        canceller.start()
        with pytest.raises(RunCancelled) as caught:
            await task
        assert caught.value.reason is WHY
        canceller.join()

    with serving(moment(gate, speech)) as server:
        asyncio.run(main(server.url))
        assert gate.left.wait(10)
    assert gate.requests == 1


def test_a_shutdown_reaches_the_server_while_the_loop_is_blocked(speech: Speech) -> None:
    """Before headers, with the loop inside a sync call: the server sees the end while the loop is still blocked."""
    gate, token = Gate(), CancelToken()

    async def main(url: str) -> bool:
        task = await run_until_reached(speech.at(url), gate, token)
        threading.Thread(target=token.cancel).start()
        seen = gate.left.wait(10)  # blocks the loop
        with pytest.raises(RunCancelled):
            await task
        return seen

    with serving(at_headers(gate, speech)) as server:
        assert asyncio.run(main(server.url))


def test_a_cancel_ends_the_back_off(speech: Speech, caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled while waiting to try again: at once, and no request follows."""
    gate = Gate()

    def script(connection: Connection) -> None:
        while connection.request():
            gate.requests += 1
            connection.whole(503, b"{}", retry_after="30")
            gate.reached.set()

    async def main(url: str) -> float:
        task = await run_until_reached(speech.at(url, max_retries=3), gate, CancelToken())
        await until(lambda: "retrying in 30.00 s" in caplog.text, "the wait")
        asked = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - asked

    caplog.set_level("INFO", "desist.models")
    with serving(script) as server:
        assert asyncio.run(main(server.url)) < 5
    assert gate.requests == 1


def test_a_flood_leaves_the_loop_to_others(speech: Speech) -> None:
    """While tokens come faster than they are parsed, another task gets its turn every few milliseconds."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(*[speech.text("word ")] * 10_000, speech.almost, speech.end)

    async def main(url: str) -> tuple[int, float]:
        await clients.client_for(speech.at(url)._settings())  # the imports aren't meant here
        began, turns = time.thread_time(), 0
        task = asyncio.create_task(collect(speech.at(url)))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await task
        return turns, time.thread_time() - began

    with serving(script) as server:
        turns, seconds = asyncio.run(main(server.url))
    assert turns > seconds / 0.005


def test_a_reader_that_leaves_closes_the_connection(speech: Speech) -> None:
    """Leaving the loop early, with aclosing: the server sees the end, and nothing is said about it."""
    gate = Gate()

    async def main(url: str) -> None:
        async with contextlib.aclosing(speech.at(url).stream(asking())) as pieces:
            async for _ in pieces:
                break
        await until(gate.left.is_set, "the close")

    with serving(mid_stream(gate, speech)) as server:
        asyncio.run(main(server.url))


def test_a_reader_that_only_drops_the_stream_closes_the_connection(speech: Speech) -> None:
    """Without aclosing the loop closes what is collected: later, but without noise and with nothing held."""
    gate, token = Gate(), CancelToken()
    noise: list[dict[str, Any]] = []

    async def leave(url: str) -> None:
        with use_token(token):
            async for _ in speech.at(url).stream(asking()):
                break

    async def main(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        await asyncio.create_task(leave(url))
        gc.collect()
        await until(gate.left.is_set, "the close")

    with serving(mid_stream(gate, speech)) as server:
        asyncio.run(main(server.url))
    assert noise == [] and token._callbacks == {}


def test_a_cancel_by_a_scope_and_a_second_cancel(speech: Speech) -> None:
    """anyio's scopes and repeated cancels close the connection like one `task.cancel()`."""
    gates = [Gate(), Gate()]

    def script(connection: Connection) -> None:
        when_stalled(gates[connection.number - 1], speech)(connection)

    async def main(url: str) -> None:
        with anyio.move_on_after(20) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(collect, speech.at(url))
                await until(gates[0].reached.is_set)
                scope.cancel()
        await until(gates[0].left.is_set, "the first close")
        task = await run_until_reached(speech.at(url), gates[1], CancelToken())
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(gates[1].left.is_set, "the second close")

    with serving(script) as server:
        asyncio.run(main(server.url))
