"""Workflows as tools of an MCP server, called and abandoned by the SDK's own client, over stdio and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import mcp_program
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from server_harness import HANG, cancel, served, until

from desist import Agent
from desist.db import SqliteDb
from desist.exceptions import MissingExtraError
from desist.models.openai import OpenAIChat
from desist.run.storage.store import RunQuery, StoredRun
from desist.server import Limits, Token, create_app
from desist.testing import LoopbackProvider, Reply

HERE = Path(__file__).parent
TARGETS = [f"{HERE / 'mcp_program.py'}:{name}" for name in ("waits", "add", "breaks", "helper")]
PROGRAM = "from desist.cli import main; main()"


def played(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(HANG):
            await main()

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def by_stdio(db: Path, *, mode: str = "auto", provider: str = "") -> AsyncIterator[Client]:
    """A client that has started `desist mcp`."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", PROGRAM, "mcp", *TARGETS, "--db", str(db)],
        env={"PROVIDER": provider, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    async with Client(stdio_client(parameters, errlog=subprocess.DEVNULL), mode=mode, cache=None) as client:
        yield client


@contextlib.asynccontextmanager
async def by_http(served: httpx2.Client, *, mode: str = "auto", secret: str = "") -> AsyncIterator[Client]:
    """A client of `/mcp`."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with create_mcp_http_client(headers=headers) as http:
        url = f"{str(served.base_url).rstrip('/')}/mcp"
        async with Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as client:
            yield client


def words(result: Any) -> str:
    return "".join(part.text for part in result.content)


def stored(db: Path) -> StoredRun:
    (run,) = SqliteDb(db).store.list_runs(RunQuery())
    return run


class Progress:
    """The reported progress; `come` is set at the first report."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []
        self.come = asyncio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.heard.append(message)
        self.come.set()


async def left(client: Client, tool: str, arguments: dict[str, Any], ready: Callable[[], Any] | None = None) -> None:
    """Call a tool, and cancel the call when it has begun."""
    progress = Progress()
    call = asyncio.ensure_future(client.call_tool(tool, arguments, progress_callback=progress))
    if ready is not None:
        await asyncio.to_thread(ready)
    else:
        await progress.come.wait()
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()


def sent(provider: LoopbackProvider) -> None:
    """Wait until the provider has sent its tokens."""
    provider.wait_request(1, HANG).wait_sent(3, HANG)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_stdio_cancelled_by_notification(tmp_path: Path, mode: str) -> None:
    """A call cancelled over stdio cancels its run with source `user`; the server answers the next call."""

    async def main() -> None:
        async with by_stdio(tmp_path / "runs.db", mode=mode) as client:
            await left(client, "waits", {"input": "go"})
            result = await client.call_tool("add", {"a": 1, "b": 2})
            assert words(result) == "3" and not result.is_error

    played(main)
    runs = {run.owner_id: run.output for run in SqliteDb(tmp_path / "runs.db").store.list_runs(RunQuery())}
    assert runs["waits"].status.value == "CANCELLED" and runs["waits"].cancel.source.value == "user"
    assert runs["waits"].content == "so far " and runs["add"].status.value == "COMPLETED"


def test_stdio_the_provider_is_stopped(tmp_path: Path) -> None:
    """A call that is cancelled while its agent waits for a token closes the provider's connection."""
    with LoopbackProvider(Reply(tokens=500, stall_after=3)) as provider:

        async def main() -> None:
            async with by_stdio(tmp_path / "runs.db", provider=provider.base_url) as client:
                await left(client, "helper", {"input": "go"}, lambda: sent(provider))
                await asyncio.to_thread(provider.exchanges[0].wait_closed, HANG)

        played(main)
    assert stored(tmp_path / "runs.db").output.cancel.source.value == "user"


class Spoken:
    """`desist mcp`, with a line of JSON for each message."""

    def __init__(self, db: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, "mcp", *TARGETS, "--db", str(db)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        self.say("initialize", hello, id=0)
        self.hear()
        self.say("notifications/initialized")

    def say(self, method: str, params: Any = None, **more: Any) -> None:
        assert self.process.stdin is not None
        told = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {}), **more}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        heard: dict[str, Any] = json.loads(self.process.stdout.readline())
        return heard

    def call(self, tool: str) -> None:
        """Call a tool, and wait for its first progress."""
        self.say("tools/call", {"name": tool, "arguments": {"input": "x"}, "_meta": {"progressToken": 7}}, id=7)
        assert self.hear()["params"]["message"] == "step wait"

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        assert self.process.stdout is not None and self.process.stdin is not None
        code = self.process.wait(HANG)
        self.process.stdout.close()
        self.process.stdin.close()
        return code


def test_stdio_end_of_input(tmp_path: Path) -> None:
    """The client disconnects during a run: the run is stored as cancelled, source `client_disconnected`; code 0."""
    spoken = Spoken(tmp_path / "runs.db")
    spoken.call("waits")
    assert spoken.process.stdin is not None
    spoken.process.stdin.close()
    assert spoken.end() == 0
    output = stored(tmp_path / "runs.db").output
    assert (output.status.value, output.cancel.source.value) == ("CANCELLED", "client_disconnected")


@pytest.mark.parametrize(
    ("number", "source", "code"), [(signal.SIGTERM, "shutdown", 0), (signal.SIGINT, "interrupt", 130)]
)
def test_stdio_signals(tmp_path: Path, number: int, source: str, code: int) -> None:
    """A signal during a run: the run is cancelled and stored, the call answered; the process ends with stdin open."""
    spoken = Spoken(tmp_path / "runs.db")
    spoken.call("waits")
    spoken.process.send_signal(number)
    assert spoken.hear()["result"]["isError"]
    assert spoken.end() == code
    assert stored(tmp_path / "runs.db").output.cancel.source.value == source


def test_stdio_garbage(tmp_path: Path) -> None:
    """Lines that aren't JSON or no request have no effect."""
    spoken = Spoken(tmp_path / "runs.db")
    assert spoken.process.stdin is not None
    spoken.process.stdin.write("nonsense\n[]\n{}\n\n")
    spoken.say("notifications/cancelled", {"requestId": 99})
    spoken.call("waits")
    for reason in ("enough", "again"):
        spoken.say("notifications/cancelled", {"requestId": 7, "reason": reason})
    spoken.say("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}}, id=8)
    assert spoken.hear()["result"]["content"][0]["text"] == "3"
    spoken.process.stdin.close()
    assert spoken.end() == 0
    runs = {run.owner_id: run.output for run in SqliteDb(tmp_path / "runs.db").store.list_runs(RunQuery())}
    assert runs["waits"].cancel.reason == "enough"


def test_http_by_its_lost_stream(db: Any) -> None:
    """Since 2026-07-28 closing the response stream is the cancel: source `client_disconnected`."""
    with served(mcp_program.waiting(), mcp=True, db=db) as client:

        async def main() -> None:
            async with by_http(client) as peer:
                assert peer.protocol_version == "2026-07-28"
                await left(peer, "waits", {"input": "go"})

        played(main)
        run = until(client, newest(client), ended)
        assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "client_disconnected")


def test_http_by_notification() -> None:
    """Before that, a cancel is a notification: source `user`. The provider's connection is closed."""
    with LoopbackProvider(Reply(tokens=500, stall_after=3)) as provider:
        helper = Agent(id="helper", model=OpenAIChat(id="m", base_url=provider.base_url, api_key="any"))
        with served(agents=[helper], mcp=True) as client:

            async def main() -> None:
                async with by_http(client, mode="legacy") as peer:
                    await left(
                        peer, "helper", {"input": "go"}, lambda: provider.wait_request(1, HANG).wait_sent(3, HANG)
                    )
                    await asyncio.to_thread(provider.exchanges[0].wait_closed, HANG)

            played(main)
            run = until(client, newest(client), ended)
            assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "user")


def newest(client: httpx2.Client, **more: Any) -> str:
    return str(client.get("/v1/runs", **more).json()["runs"][0]["run_id"])


def ended(run: dict[str, Any]) -> bool:
    return run["status"] in ("CANCELLED", "COMPLETED", "ERROR")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_tools_results_and_progress(mode: str) -> None:
    """Tools have schemas, steps are progress; failures, invalid arguments and other cancels are error results."""
    with served(mcp_program.waiting(), mcp_program.add, mcp_program.breaks, mcp=True) as client:

        async def main() -> None:
            async with by_http(client, mode=mode) as peer:
                tools = {tool.name: tool for tool in (await peer.list_tools()).tools}
                assert set(tools) == {"waits", "add", "breaks"} and tools["add"].description == "Adds."
                assert set(tools["add"].input_schema["properties"]) == {"a", "b"}
                progress = Progress()
                result = await peer.call_tool("add", {"a": 1, "b": 2}, progress_callback=progress)
                assert words(result) == "3" and progress.heard == ["step sum"]
                for name, arguments, said in (
                    ("breaks", {"input": "x"}, "no luck"),
                    ("add", {"a": "x"}, "a"),
                    ("waits", {"input": 5}, "input"),
                ):
                    result = await peer.call_tool(name, arguments)
                    assert result.is_error and said in words(result)
                with pytest.raises(MCPError, match="there is no tool"):
                    await peer.call_tool("nothing", {})
                progress = Progress()
                call = asyncio.ensure_future(peer.call_tool("waits", {"input": "go"}, progress_callback=progress))
                await progress.come.wait()
                await asyncio.to_thread(lambda: cancel(client, newest(client), 5.0, reason="enough"))
                result = await call
                assert result.is_error and words(result) == "the run was cancelled: enough"

        played(main)


def test_cancelled_before_anything_began(db: Any) -> None:
    """Calls that are abandoned at once leave no live run: none was started, or it ended CANCELLED."""
    with served(mcp_program.waiting(), mcp=True, db=db) as client:

        async def main() -> None:
            async with by_http(client) as peer:
                for turns in range(12):
                    call = asyncio.ensure_future(peer.call_tool("waits", {"input": "go"}))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.wait({call})

        played(main)
        for run in client.get("/v1/runs").json()["runs"]:
            run = until(client, run["run_id"], ended)
            assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "client_disconnected")


def test_tokens_owners_and_limits() -> None:
    """Without a token there is no session; a call needs a scope; a session belongs to the token that opened it."""
    ann, bob, reader = (Token.new_secret() for _ in range(3))
    tokens = [
        Token(secret=ann, name="ann", owner="ann"),
        Token(secret=bob, name="bob", owner="bob"),
        Token(secret=reader, name="reader", scopes=frozenset({"read"})),
    ]
    with served(mcp_program.add, tokens=tokens, mcp=True, limits=Limits(streams=20)) as client:
        assert client.post("/mcp", json={}).status_code == 401

        async def main() -> None:
            async with by_http(client, secret=ann) as peer:
                assert words(await peer.call_tool("add", {"a": 1, "b": 2})) == "3"

        played(main)
        refused = client.post("/mcp", json={}, headers={"Authorization": f"Bearer {reader}"})
        assert refused.status_code == 403 and "scope 'run'" in refused.json()["detail"]
        runs = client.get("/v1/runs", headers={"Authorization": f"Bearer {ann}"}).json()["runs"]
        assert [run["user_id"] for run in runs] == ["ann"]
        opened = client.post("/mcp", json=HELLO, headers={"Authorization": f"Bearer {ann}", **ACCEPT})
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], **ACCEPT}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        stolen = client.post("/mcp", json=listing, headers={"Authorization": f"Bearer {bob}", **session})
        assert stolen.status_code == 404


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session beyond the limit is refused; a session that is closed or idle makes room."""
    import desist.server.protocols.mcp.http as door

    monkeypatch.setattr(door, "SESSIONS", 2)
    with served(mcp_program.add, mcp=True) as client:
        opened = [client.post("/mcp", json=HELLO, headers=ACCEPT) for _ in range(3)]
        assert [answer.status_code for answer in opened] == [200, 200, 503]
        ended = {"Mcp-Session-Id": opened[0].headers["mcp-session-id"], **ACCEPT}
        assert client.delete("/mcp", headers=ended).status_code == 200
        assert client.post("/mcp", json=HELLO, headers=ACCEPT).status_code == 200
    monkeypatch.setattr(door, "IDLE", 0.05)
    with served(mcp_program.add, mcp=True) as client:
        codes = {client.post("/mcp", json=HELLO, headers=ACCEPT).status_code for _ in range(2)}
        assert codes == {200}
        limit = time.monotonic() + HANG
        while client.post("/mcp", json=HELLO, headers=ACCEPT).status_code != 200:
            assert time.monotonic() < limit, "an idle session never ends"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the error names the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("desist.server.protocols.mcp")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mcp", "mcp_types")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'desist\[mcp\]'"):
        create_app(workflows=[mcp_program.add], mcp=True)
