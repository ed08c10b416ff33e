"""Tools of MCP servers in agents: over stdio and HTTP, cancelled during a call, closed with all their processes."""

from __future__ import annotations

import asyncio
import os
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import mcp_program
import mcp_types as types
import psutil
import pytest
from mcp import Client
from server_harness import HANG, served, until

from desist import Agent
from desist.exceptions import ConfigurationError, MissingExtraError
from desist.testing import Call, Gate, ScriptedModel, ToolCalls
from desist.tools.mcp import MCPTools

HERE = Path(__file__).parent


def played(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(HANG):
            await main()

    asyncio.run(bounded())


class Peer:
    """An MCP server to start, and what it reports."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # Opened for both: neither side waits for the other to open it.
        self._report, self._rest = os.open(path, os.O_RDWR), b""

    def command(self, manner: str = "") -> str:
        return shlex.join([sys.executable, str(HERE / "mcp_peer.py"), str(self.path), *([manner] if manner else [])])

    def hear(self) -> str:
        """Wait for the next report."""
        while b"\n" not in self._rest:
            assert select.select([self._report], [], [], HANG)[0], "nothing was reported"
            self._rest += os.read(self._report, 1000)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def process(self) -> psutil.Process:
        """Wait for its start, and return it."""
        word, pid = self.hear().split()
        assert word == "pid"
        return psutil.Process(int(pid))

    def processes(self) -> list[psutil.Process]:
        """Return the processes started for it that still run."""
        known = psutil.process_iter(["cmdline", "status"])
        return [one for one in known if str(self.path) in (one.info["cmdline"] or ()) and not gone(one)]

    def close(self) -> None:
        os.close(self._report)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "report")
    yield made
    made.close()


def agent(tools: Any, *script: Any) -> Agent:
    return Agent(id="a", model=ScriptedModel(list(script)), tools=[tools])


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_tools_are_called(peer: Peer) -> None:
    """Tools have valid names, descriptions and schemas; their results and errors are returned; the run goes on."""

    async def main() -> None:
        async with MCPTools(
            peer.command(), timeout_seconds=HANG, tool_name_prefix="my", exclude_tools=["my_family"]
        ) as tools:
            process = peer.process()
            assert set(tools.functions) == {"my_echo", "my_wait", "my_broken", "my_die_now"}
            assert tools.functions["my_echo"].definition()["function"]["description"] == "The echo."
            calls = ToolCalls(Call("my_echo", {"text": "hi"}), Call("my_broken"))
            output = await agent(tools, calls, Call("my_die_now"), Call("my_echo", {"text": "x"}), "done").arun("go")
            assert output.content == "done"
            results = [(tool.result, tool.tool_call_error) for tool in output.tools]
            assert results[:2] == [("hi", False), ("no luck", True)]
            assert all(error and "onnection" in said for said, error in results[2:])
        assert gone(process)

    played(main)


def test_cancelled_in_mid_call(peer: Peer) -> None:
    """A cancel leaves the call at once; the server is notified and stops its work; its next call works."""

    async def main() -> None:
        async with MCPTools(peer.command(), timeout_seconds=HANG) as tools:
            peer.process()
            stopped = agent(tools, Call("wait"), "never")
            running = await stopped.arun("go", background=True)
            assert await asyncio.to_thread(peer.hear) == "began"
            receipt = stopped.cancel(running.run_id, reason="enough")
            await receipt
            assert receipt.status.value == "CANCELLED" and not receipt.abandoned
            assert await asyncio.to_thread(peer.hear) == "cancelled"
            output = await agent(tools, Call("echo", {"text": "still here"}), "done").arun("go")
            assert output.tools[0].result == "still here"

    played(main)


def test_a_sync_run_too(peer: Peer) -> None:
    """The same for `run()` in a thread, with tools that were connected by sync code."""
    with MCPTools(peer.command(), timeout_seconds=HANG) as tools:
        process = peer.process()
        stopped = agent(tools, Call("wait"), "never")
        outputs: list[Any] = []
        thread = threading.Thread(target=lambda: outputs.append(stopped.run("go", run_id="mine")))
        thread.start()
        assert peer.hear() == "began"
        assert stopped.cancel_run("mine")
        thread.join(HANG)
        assert outputs[0].status.value == "CANCELLED" and peer.hear() == "cancelled"
        assert agent(tools, Call("echo", {"text": "hi"}), "done").run("go").tools[0].result == "hi"
    assert gone(process)


class SlowToNotify:
    """A session of a client that needs some turns of the loop to notify its server of a cancel."""

    def __init__(self) -> None:
        self.began, self.notified = asyncio.Event(), asyncio.Event()

    async def list_tools(self) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name="wait", input_schema={"type": "object"})])

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(50):
                await asyncio.sleep(0)
            self.notified.set()
            raise


def test_a_call_is_cancelled_once() -> None:
    """A second cancellation would interrupt the client while it notifies the server of the first."""

    async def main() -> None:
        session = SlowToNotify()
        async with MCPTools(session=session, timeout_seconds=HANG) as tools:
            stopped = agent(tools, Call("wait"), "never")
            running = await stopped.arun("go", background=True)
            await session.began.wait()
            receipt = stopped.cancel(running.run_id)
            await receipt
            assert receipt.status.value == "CANCELLED" and not receipt.abandoned
            await session.notified.wait()

    played(main)


def test_a_timeout_is_a_cancel(peer: Peer) -> None:
    """A call that takes too long is abandoned, and the server notified; the model gets an error."""

    async def main() -> None:
        async with MCPTools(peer.command(), timeout_seconds=HANG) as tools:
            peer.process()
            tools.functions["wait"].timeout = 0.2
            output = await agent(tools, Call("wait"), Call("echo", {"text": "hi"}), "done").arun("go")
            assert output.content == "done" and "took longer" in output.tools[0].result
            heard = [await asyncio.to_thread(peer.hear)]
            while heard[-1] != "echo":
                heard.append(await asyncio.to_thread(peer.hear))
            assert heard in (["began", "cancelled", "echo"], ["echo"])  # on a slow machine it hasn't begun

    played(main)


@pytest.mark.parametrize("manner", ["", "deaf"])
def test_closing_ends_all_processes(peer: Peer, manner: str) -> None:
    """`close()` returns when the server and its child processes have ended, in any session, also unresponsive ones."""

    async def main() -> None:
        tools = MCPTools(peer.command(manner), timeout_seconds=HANG)
        await tools.connect()
        process = peer.process()
        output = await agent(tools, Call("family"), "done").arun("go")
        child = psutil.Process(int(output.tools[0].result))
        await tools.close()
        await tools.close()  # once more is nothing
        assert gone(process) and gone(child)
        with pytest.raises(ConfigurationError, match="isn't connected"):
            agent(tools, "x")

    played(main)


def test_connecting_is_cancelled(peer: Peer) -> None:
    """A connect that is cancelled or times out at an unresponsive server leaves no process."""

    async def main() -> None:
        connecting = asyncio.ensure_future(MCPTools(peer.command("mute"), timeout_seconds=300).connect())
        process = await asyncio.to_thread(peer.process)
        connecting.cancel()
        await asyncio.wait({connecting})
        assert connecting.cancelled() and gone(process)
        with pytest.raises(ConfigurationError, match="can't be connected to"):
            await MCPTools(peer.command("mute"), timeout_seconds=0.5).connect()
        assert peer.processes() == []

    played(main)


def test_over_http_to_a_desist_server() -> None:
    """An agent calls another server's workflow through `/mcp`; cancelled here, the run there ends CANCELLED."""
    with served(mcp_program.waiting(), mcp_program.adding(), mcp=True) as client:
        url = f"{str(client.base_url).rstrip('/')}/mcp"

        async def main() -> None:
            async with MCPTools(url=url, timeout_seconds=HANG) as tools:
                assert set(tools.functions) == {"waits", "add"}
                output = await agent(tools, Call("add", {"a": 1, "b": 2}), "done").arun("go")
                assert output.tools[0].result == "3"
                stopped = agent(tools, Call("waits", {"input": "go"}), "never")
                running = await stopped.arun("go", background=True)
                there = await asyncio.to_thread(live, client)
                await stopped.cancel(running.run_id)
                run = await asyncio.to_thread(until, client, there, lambda run: run["status"] == "CANCELLED")
                assert run["cancel"]["source"] == "client_disconnected"

        played(main)


def live(client: Any) -> str:
    """Wait for a live run of the workflow that waits, and return its id."""
    limit = time.monotonic() + HANG
    while time.monotonic() < limit:
        for run in client.get("/v1/runs?workflow=waits").json()["runs"]:
            if run["status"] == "RUNNING":
                return str(run["run_id"])
    raise TimeoutError("there is no live run")


def test_a_session_of_the_callers(peer: Peer) -> None:
    """A session that the caller passes is not closed."""
    with served(mcp_program.adding(), mcp=True) as client:

        async def main() -> None:
            async with Client(f"{str(client.base_url).rstrip('/')}/mcp") as theirs:
                async with MCPTools(session=theirs.session, timeout_seconds=HANG) as tools:
                    output = await agent(tools, Call("add", {"a": 1, "b": 2}), "done").arun("go")
                    assert output.tools[0].result == "3"
                assert (await theirs.list_tools()).tools

        played(main)


def test_a_program_that_never_closes(peer: Peer) -> None:
    """At the end of a program its servers end, also unresponsive ones, without output."""
    program = (
        "from desist.tools.mcp import MCPTools\n"
        f"tools = MCPTools({peer.command('deaf')!r}, timeout_seconds={HANG})\n"
        "tools.__enter__()\n"
        "print(sorted(tools.functions))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG)
    assert "echo" in done.stdout and done.stderr == "" and done.returncode == 0
    pid = int(peer.hear().split()[1])
    assert not psutil.pid_exists(pid) or gone(psutil.Process(pid))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "exactly one"),
        ({"command": "x", "url": "http://x"}, "exactly one"),
        ({"command": "x", "transport": "sse"}, "transport"),
        ({"url": "http://x", "env": {"A": "1"}}, "env="),
        ({"command": " "}, "empty"),
        ({"command": "x", "refresh_connection": True}, "refresh_connection"),
    ],
)
def test_bad_parameters(given: dict[str, Any], word: str) -> None:
    """Invalid parameters are refused by name."""
    with pytest.raises(ConfigurationError, match=word):
        MCPTools(**given)


def test_what_can_not_be_reached(tmp_path: Path) -> None:
    """No such program, no server, an unknown tool: the error says so, and nothing is left."""

    async def main() -> None:
        for tools, said in (
            (MCPTools(str(tmp_path / "nothing")), "nothing"),
            (MCPTools(url="http://127.0.0.1:9/mcp"), "127.0.0.1:9"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                await tools.connect()

    played(main)


def test_an_agent_needs_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent made before the connection is refused; without the SDK the error names the command that installs it."""
    with pytest.raises(ConfigurationError, match="async with"):
        agent(MCPTools("x"), Gate())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'desist\[mcp\]'"):
        MCPTools("x")
