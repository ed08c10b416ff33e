"""Clients of all protocols when `desist serve --a2a --mcp` is shut down, and what is left after they disconnected."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import httpx2
from a2a.client import ClientConfig, create_client
from a2a.types import a2a_pb2 as pb
from mcp import Client
from mcp_program import waiting
from server_harness import HANG, served

from desist.server import Limits

PROGRAM = Path(__file__).with_name("mcp_program.py")


def test_sigterm() -> None:
    """Each client receives the cancel in its protocol before the connection ends; exit code 0, no traceback."""
    command = [sys.executable, "-c", "from desist.cli import main; main()", "serve", f"{PROGRAM}:waits"]
    more = ["--port", "0", "--drain", "0", "--a2a", "--mcp"]
    process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        url = process.stderr.readline().rpartition(" ")[2].strip()
        asyncio.run(all_three(url, process))
        assert process.wait(HANG) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait(HANG)
        process.stderr.close()


async def all_three(url: str, process: subprocess.Popen[str]) -> None:
    began = asyncio.Semaphore(0)
    async with asyncio.timeout(HANG), asyncio.TaskGroup() as group:
        told = [group.create_task(one(url, began)) for one in (by_agui, by_a2a, by_mcp)]
        for _ in told:
            await began.acquire()
        process.send_signal(signal.SIGTERM)
    assert [task.result() for task in told] == ["cancelled", "TASK_STATE_CANCELED", "the run was cancelled: SIGTERM"]


async def by_agui(url: str, began: asyncio.Semaphore) -> str:
    asked = {"threadId": "t", "runId": "r", "messages": [{"role": "user", "content": "go"}]}
    last = {}
    async with (
        httpx2.AsyncClient(timeout=HANG, trust_env=False) as http,
        http.stream("POST", f"{url}/v1/agui/workflows/waits", json=asked) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                if last["type"] == "TEXT_MESSAGE_CONTENT":
                    began.release()
    return str(last["outcome"]["type"])


async def by_a2a(url: str, began: asyncio.Semaphore) -> str:
    last = pb.StreamResponse()
    async with httpx.AsyncClient(timeout=HANG, trust_env=False) as http:
        peer = await create_client(f"{url}/a2a/workflows/waits", ClientConfig(httpx_client=http))
        part = pb.Message(message_id="m", role=pb.ROLE_USER, parts=[pb.Part(text="go")])
        async for update in peer.send_message(pb.SendMessageRequest(message=part)):
            if update.HasField("artifact_update") and update.artifact_update.artifact.artifact_id != "answer":
                began.release()
            last = update
    return str(pb.TaskState.Name(last.status_update.status.state))


async def by_mcp(url: str, began: asyncio.Semaphore) -> str:
    async def progress(*told: object) -> None:
        began.release()

    async with Client(f"{url}/mcp") as client:
        result = await client.call_tool("waits", {"input": "go"}, progress_callback=progress)
    return str(result.content[0].text)


def test_nothing_is_left() -> None:
    """After many abandoned calls of each protocol, the server counts no followers, streams or runs."""

    async def leave(base: str) -> None:
        asked: dict[str, Any] = {"threadId": "t", "messages": [{"role": "user", "content": "go"}]}
        async with asyncio.timeout(HANG), httpx2.AsyncClient(timeout=HANG, trust_env=False) as http:
            for number in range(10):
                asked["runId"] = f"r{number}"
                async with http.stream("POST", f"{base}/v1/agui/workflows/waits", json=asked) as response:
                    await anext(response.aiter_lines())
            async with Client(f"{base}/mcp", cache=None) as client:
                calls = [asyncio.ensure_future(client.call_tool("waits", {"input": "go"})) for _ in range(10)]
                while len([run for run in (await http.get(f"{base}/v1/runs")).json()["runs"] if begun(run)]) < 10:
                    pass
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)

    def begun(run: dict[str, Any]) -> bool:
        return live(run) and not run["run_id"].startswith("r")

    with served(waiting(), mcp=True, a2a=True, limits=Limits(away=0.0)) as client:
        asyncio.run(leave(str(client.base_url).rstrip("/")))
        service = client.app.state.service  # type: ignore[attr-defined]
        limit = time.monotonic() + HANG
        while len(service.active_runs) and time.monotonic() < limit:
            client.get("/health")
        runs = client.get("/v1/runs").json()["runs"]
        assert {(run["status"], run["cancel"]["source"]) for run in runs} == {("CANCELLED", "client_disconnected")}
        assert len(runs) == 20 and not service.active_runs
        assert not service.followers._clients and not service.followers._watches


def live(run: dict[str, Any]) -> bool:
    return bool(run["status"] == "RUNNING")
