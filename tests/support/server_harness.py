"""Helpers of the server's tests: an application served in a thread, workflows that wait at gates, streams of events."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from desist import Step, StepInput, Workflow
from desist.cancel.reason import Source
from desist.server import create_app
from desist.testing import Gate

HANG = 100.0


class _Server(uvicorn.Server):
    """uvicorn in a thread, without signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served_app(app: FastAPI, *, port: int = 0, graceful: int = 5) -> Iterator[str]:
    """Serve an application in a thread; yield the URL. At the end, live runs are cancelled."""
    config = uvicorn.Config(
        app, port=port, loop="asyncio", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=graceful
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.up.wait(HANG), "the server doesn't start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        for run in list(app.state.service.active_runs._live.values()):
            run.stop(Source.shutdown)
        server.should_exit = True
        thread.join(HANG)
        assert not thread.is_alive(), "the server doesn't end"


@contextlib.contextmanager
def served(*workflows: Any, agents: Any = (), **more: Any) -> Iterator[httpx2.Client]:
    """Serve components; yield a client. At the end, live runs are cancelled."""
    app = create_app(workflows=workflows, agents=agents, **more)
    with served_app(app) as url, httpx2.Client(base_url=url, timeout=HANG, trust_env=False) as client:
        client.app = app  # type: ignore[attr-defined]  # for tests that look inside
        yield client


def story(gate: Gate, name: str = "Story", before: int = 2, after: int = 2, **more: Any) -> Workflow:
    """A workflow that emits pieces, waits at the gate, and emits more."""

    async def tell(_: StepInput) -> AsyncIterator[str]:
        for number in range(before):
            yield f"b{number} "
        await gate.wait()
        for number in range(after):
            yield f"a{number} "

    return Workflow(name, steps=[Step("tell", executor=tell)], **more)


@dataclass
class Frame:
    """A server-sent event."""

    event: str = ""
    id: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


def frames(lines: Iterator[str]) -> Iterator[Frame]:
    """Read events from the lines of a stream."""
    frame = Frame()
    for line in lines:
        kind, _, value = line.partition(": ")
        if kind == "event":
            frame.event = value
        elif kind == "id":
            frame.id = int(value)
        elif kind == "data":
            frame.data = json.loads(value)
        elif not line and frame.event:
            yield frame
            frame = Frame()


@contextlib.contextmanager
def following(client: httpx2.Client, run_id: str, last: int | None = None, **more: Any) -> Iterator[Iterator[Frame]]:
    """Follow a run."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers, **more) as response:
        assert response.status_code == 200, response.read()
        yield frames(response.iter_lines())


def start(client: httpx2.Client, workflow: str = "story", **more: Any) -> str:
    """Start a run, and return its id."""
    answer = client.post("/v1/runs", json={"workflow": workflow, "input": "go", **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


def cancel(client: httpx2.Client, run_id: str, wait: float | None = None, **how: Any) -> httpx2.Response:
    """Cancel a run."""
    return client.post(f"/v1/runs/{run_id}/cancel", json=how, params={} if wait is None else {"wait": wait})


def status(client: httpx2.Client, run_id: str) -> str:
    return str(client.get(f"/v1/runs/{run_id}").json()["status"])


def texts(found: list[Frame]) -> str:
    """Return the pieces of text that were told."""
    pieces = [frame.data["step_output"] for frame in found if frame.event == "StepOutput"]
    return "".join(piece["content"] for piece in pieces if "step_name" not in piece)  # the last one has it all again


def until(client: httpx2.Client, run_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for a run until something holds."""
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        run: dict[str, Any] = client.get(f"/v1/runs/{run_id}").json()
        if holds(run):
            return run
    raise TimeoutError(f"it never held: {run}")
