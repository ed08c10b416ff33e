"""E6 to E9: connections that a call waits for, whoever opened them: the server sees their end."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import openai
import psycopg
import pytest
from hanging_server import PATIENCE
from started_scenario import Place, Props, Run, Way, wait_until

import requests
from desist.calls.blocking_syscalls import blocking_fds
from desist.testing import LoopbackProvider, Reply

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a thread is blocked in is known on Linux only")
everywhere = pytest.mark.parametrize(
    ("place", "way"),
    [
        ("step", "run"),
        ("tool", "run"),
        ("step", "arun"),
        ("tool", "arun"),
        ("tool", "parallel run"),
        ("step", "background"),
    ],
)
#: Seconds between two tokens; so many of them that no test sees the last one.
PACE, MANY = 0.002, 100_000


def stop_all(work: Callable[[], Any], place: Place, way: Way, ready: Callable[[], None]) -> Any:
    """Run it, stop it when it is ready; nothing is abandoned."""
    run = Run(work, place=place, way=way).start()
    ready()
    receipt = run.stop()
    assert receipt.abandoned == []
    run.wait_over()
    return receipt


class Blocking:
    """A blocking function, and whether its thread waits for a descriptor: only then is a connection closed for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._native_id = function, 0

    def __call__(self) -> None:
        self._native_id = threading.get_native_id()
        self._function()

    def wait_blocked(self) -> None:
        wait_until(lambda: bool(self._native_id and blocking_fds(self._native_id)), "the thread isn't blocked")


# -- E6: a client that is older than the call


def requests_session(url: str) -> Callable[[], Any]:
    session = requests.Session()
    session.get(f"{url}/first")
    return lambda: session.get(f"{url}/slow")


def httpx_client(url: str) -> Callable[[], Any]:
    client = httpx2.Client(timeout=None)
    client.get(f"{url}/first")
    return lambda: client.get(f"{url}/slow")


@everywhere
@pytest.mark.parametrize("client", [requests_session, httpx_client], ids=lambda f: f.__name__)
def test_kept_connections(client: Callable[[str], Any], place: Place, way: Way, props: Props) -> None:
    """E6: a connection that was opened before the call is closed, and counted."""
    call = Blocking(client(props.server.url))

    def ready() -> None:
        props.server.wait_arrived()
        call.wait_blocked()

    receipt = stop_all(call, place, way, ready)
    assert receipt.connections_closed == 1
    props.server.wait_ended()


# -- E7: the driver of a database, whose socket is opened in C


class Backend:
    """One connection to Postgres that finds out when its client has gone, seen from another connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._observer = psycopg.connect(url, autocommit=True)

    def connect(self) -> Any:
        return psycopg.connect(self.url, options="-c client_connection_check_interval=20", application_name="sleeper")

    def active(self) -> int:
        query = "select count(*) from pg_stat_activity where application_name = 'sleeper' and query like '%pg_sleep%'"
        [count] = self._observer.execute(query).fetchone() or [0]
        return int(count)

    def wait_active(self) -> None:
        wait_until(lambda: self.active() > 0, "the query isn't running")

    def wait_gone(self) -> None:
        wait_until(lambda: self.active() == 0, "the query is still running")

    def close(self) -> None:
        self._observer.close()


@pytest.fixture
def backend(new_postgres: Callable[[], str]) -> Iterator[Backend]:
    made = Backend(new_postgres())
    yield made
    made.close()


@everywhere
@pytest.mark.parametrize("opened", ["before", "in the call"])
def test_postgres(opened: str, place: Place, way: Way, backend: Backend) -> None:
    """E7: a call inside a query is out, and the server ends the query, as it checks its connections."""
    kept = backend.connect() if opened == "before" else None

    def query() -> None:
        with kept or backend.connect() as connection:
            connection.execute("select pg_sleep(300)")

    def ready() -> None:
        backend.wait_active()
        call.wait_blocked()

    call = Blocking(query)
    receipt = stop_all(call, place, way, ready)
    assert receipt.connections_closed == 1
    backend.wait_gone()
    if kept is not None:
        kept.close()


@everywhere
def test_postgres_of_async_code(place: Place, way: Way, backend: Backend) -> None:
    """E7: an async driver is cancelled as a task is: it cancels the query itself."""

    async def query() -> None:
        options = "-c client_connection_check_interval=20"
        async with await psycopg.AsyncConnection.connect(
            backend.url, options=options, application_name="sleeper"
        ) as connection:
            await connection.execute("select pg_sleep(300)")

    stop_all(query, place, way, backend.wait_active)
    backend.wait_gone()


# -- E8: a loop that a library keeps between calls


@everywhere
def test_a_loop_that_is_kept(place: Place, way: Way, props: Props) -> None:
    """E8: the second call of a library that runs its own loop is out, its `finally` ran, the loop is as it was."""
    loop, cleaned = asyncio.new_event_loop(), []

    async def ask(path: str) -> bytes:
        reader, writer = await asyncio.open_connection(*props.server.address)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        try:
            return await reader.readline()
        finally:
            await asyncio.sleep(0)
            cleaned.append(path)
            writer.close()

    assert loop.run_until_complete(ask("/first")).startswith(b"HTTP/1.1 200")
    stop_all(lambda: loop.run_until_complete(ask("/slow")), place, way, props.server.wait_arrived)
    props.server.wait_ended()
    assert cleaned == ["/first", "/slow"]
    assert loop.run_until_complete(ask("/first")).startswith(b"HTTP/1.1 200"), "the loop can be used again"
    loop.close()


# -- E9: a graph of nodes, each of which streams from a model


class ContextExecutor(ThreadPoolExecutor):
    """The executor of a graph library: each job runs in a copy of the submitter's context."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(partial(contextvars.copy_context().run, fn, *args, **kwargs))


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(Reply(tokens=MANY, token_interval=PACE)) as provider:
        yield provider


MESSAGES: Any = [{"role": "user", "content": "go"}]


def sync_node(provider: LoopbackProvider) -> None:
    client = openai.OpenAI(api_key="none", base_url=provider.base_url, max_retries=0)
    with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        for _ in stream:
            pass


async def async_node(provider: LoopbackProvider) -> None:
    client = openai.AsyncOpenAI(api_key="none", base_url=provider.base_url, max_retries=0)
    async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
        pass


def sync_graph(provider: LoopbackProvider) -> Callable[[], Any]:
    def invoke() -> None:
        with ContextExecutor() as executor:
            for future in [executor.submit(sync_node, provider) for _ in range(3)]:
                future.result()

    return invoke


def async_graph(provider: LoopbackProvider) -> Callable[[], Any]:
    async def ainvoke() -> None:
        nodes = [
            asyncio.create_task(async_node(provider), context=contextvars.copy_context(), name=f"node {n}")
            for n in range(3)
        ]
        await asyncio.wait(nodes, return_when=asyncio.FIRST_COMPLETED)

    return ainvoke


def langgraph(node: Callable[..., Any], is_async: bool) -> Callable[[LoopbackProvider], Callable[[], Any]]:
    """Return what makes a graph of three parallel nodes with the real library."""

    def make(provider: LoopbackProvider) -> Callable[[], Any]:
        graph = importlib.import_module("langgraph.graph")
        builder = graph.StateGraph(dict)

        def call(_: Any) -> Any:
            node(provider)
            return {}

        async def acall(_: Any) -> Any:
            await node(provider)
            return {}

        for n in range(3):
            builder.add_node(f"node {n}", acall if is_async else call)
            builder.add_edge(graph.START, f"node {n}")
        compiled = builder.compile()

        def invoke() -> Any:
            return compiled.invoke({})

        async def ainvoke() -> Any:
            return await compiled.ainvoke({})

        return ainvoke if is_async else invoke

    return make


GRAPHS = {
    "sync": sync_graph,
    "async": async_graph,
    "langgraph sync": langgraph(sync_node, False),
    "langgraph async": langgraph(async_node, True),
}


@everywhere
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_streams(graph: str, place: Place, way: Way, provider: LoopbackProvider) -> None:
    """E9: three parallel nodes are out of their streams, the provider sees the end of each, and generates no more."""
    if graph.startswith("langgraph"):
        pytest.importorskip("langgraph", reason="langgraph isn't installed: some 20 packages")

    def ready() -> None:
        provider.wait_request(3, PATIENCE)
        for exchange in provider.exchanges:
            exchange.wait_sent(3, PATIENCE)

    stop_all(GRAPHS[graph](provider), place, way, ready)
    for exchange in provider.exchanges:
        exchange.wait_closed(PATIENCE)
        exchange.wait_over(PATIENCE)
        assert exchange.closed_by == "client" and exchange.tokens_sent_after_close <= 2
    assert len(provider.exchanges) == 3
    assert not any(thread.name.startswith("ContextExecutor") for thread in threading.enumerate())
