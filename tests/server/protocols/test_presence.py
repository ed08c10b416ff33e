"""Who is present at a run, on every route that waits or follows: whose leaving counts, and after how long.

Each request is sent by hand over a socket of its own, which is closed to leave: so a client is lost in the same way
whatever the route. With a grace of 0 seconds a leaving that counts would end the run before the next request is
answered.
"""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from server_harness import HANG, cancel, served, story, until

from desist.server import Limits, Token
from desist.testing import Gate

LONG = 3600.0  #: seconds: never, in a test
STARTER, READER, STOPPER, BOSS = (f"{name}-secret-0123456789" for name in ("starter", "reader", "stopper", "boss"))
TOKENS = [
    Token(secret=STARTER, name="starter", owner="ann", scopes=frozenset({"read", "run"})),
    Token(secret=READER, name="reader", owner="ann", scopes=frozenset({"read"})),
    Token(secret=STOPPER, name="stopper", owner="ann", scopes=frozenset({"read", "cancel"})),
    Token(secret=BOSS, name="boss"),
]


#: The grace of the server of a test, for a route that has one of its own.
_away = [0.0]
#: The requests of a test that are open.
_open: list[Asked] = []


class Asked:
    """A request that stays open until the client disconnects."""

    def __init__(
        self, client: httpx2.Client, secret: str, method: str, path: str, body: Any = None, **headers: str
    ) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
        said = {
            "Host": "127.0.0.1",
            "Authorization": f"Bearer {secret}",
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Accept": "application/json, text/event-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self._socket = socket.create_connection(("127.0.0.1", client.base_url.port or 0), HANG)
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        _open.append(self)

    def leave(self) -> None:
        self._socket.close()


def a2a(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def message() -> dict[str, Any]:
    return {"message": {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": "go"}]}}


def start_v1(client: httpx2.Client) -> Asked:
    body = {"workflow": "story", "input": "go", "stream": True, "on_disconnect": "cancel"}
    return Asked(client, STARTER, "POST", "/v1/runs", body)


def start_and_follow(client: httpx2.Client) -> Asked:
    body = {"workflow": "story", "input": "go", "on_disconnect": "cancel"}
    run = client.post("/v1/runs", json=body, headers={"Authorization": f"Bearer {STARTER}"}).json()
    return Asked(client, STARTER, "GET", f"/v1/runs/{run['run_id']}/events?present=true")


def _earlier(client: httpx2.Client) -> str:
    """Return a cancelled run of the starter."""
    body = {"workflow": "story", "input": "go"}
    run = client.post("/v1/runs", json=body, headers={"Authorization": f"Bearer {STARTER}"}).json()
    cancel(client, run["run_id"], 5.0)
    return str(run["run_id"])


def continue_v1(client: httpx2.Client) -> Asked:
    path = f"/v1/runs/{_earlier(client)}/continue"
    return Asked(client, STARTER, "POST", path, {"stream": True, "on_disconnect": "cancel"})


def continue_shaped(client: httpx2.Client) -> Asked:
    return Asked(client, STARTER, "POST", f"/workflows/story/runs/{_earlier(client)}/continue", "stream=false")


def start_agui(client: httpx2.Client, query: str = "") -> Asked:
    asked = {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "go"}]}
    return Asked(client, STARTER, "POST", f"/v1/agui/workflows/story{query}", asked)


def start_agui_away(client: httpx2.Client) -> Asked:
    return start_agui(client, f"?away={_away[0]}")


def start_shaped(client: httpx2.Client) -> Asked:
    return Asked(client, STARTER, "POST", "/workflows/story/runs", urlencode({"message": "go"}))


def wait_shaped(client: httpx2.Client) -> Asked:
    return Asked(client, STARTER, "POST", "/workflows/story/runs", urlencode({"message": "go", "stream": "false"}))


def wait_a2a(client: httpx2.Client) -> Asked:
    return Asked(client, STARTER, "POST", "/a2a/workflows/story", a2a("SendMessage", **message()), A2A_Version="1.0")


def stream_a2a(client: httpx2.Client) -> Asked:
    body = a2a("SendStreamingMessage", **message())
    return Asked(client, STARTER, "POST", "/a2a/workflows/story", body, A2A_Version="1.0")


def continue_run_v1(client: httpx2.Client) -> Asked:
    body = {"workflow": "story", "input": "go", "stream": True}
    return Asked(client, STARTER, "POST", "/v1/runs", body)


def call_mcp(client: httpx2.Client) -> Asked:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "story", "arguments": {"input": "go"}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    named = {"Mcp_Method": "tools/call", "Mcp_Name": "story", "MCP_Protocol_Version": "2026-07-28"}
    return Asked(client, STARTER, "POST", "/mcp", body, **named)


#: The routes on which a client waits for a run that stops when its clients have left.
WAITING: dict[str, Callable[[httpx2.Client], Asked]] = {
    "POST /v1/runs": start_v1,
    "GET /v1/runs/{run_id}/events?present=true": start_and_follow,
    "POST /v1/runs/{run_id}/continue": continue_v1,
    "POST /v1/agui/workflows/{component_id}?away=": start_agui_away,
    "POST /workflows/{component_id}/runs": start_shaped,
    "POST /workflows/{component_id}/runs stream=false": wait_shaped,
    "POST /workflows/{component_id}/runs/{run_id}/continue": continue_shaped,
    "A2A SendMessage": wait_a2a,
}
#: Those on which it goes on.
SURVIVING: dict[str, Callable[[httpx2.Client], Asked]] = {
    "POST /v1/runs on_disconnect=continue": continue_run_v1,
    "A2A SendStreamingMessage": stream_a2a,
}
#: The routes on which a client follows a run that was started before: path, and body.
FOLLOWING: dict[str, Callable[[str], tuple[str, str, Any]]] = {
    "GET /v1/runs/{run_id}/events": lambda run: ("GET", f"/v1/runs/{run}/events", None),
    "GET /v1/runs/{run_id}/events?format=agui": lambda run: ("GET", f"/v1/runs/{run}/events?format=agui", None),
    "POST /workflows/{component_id}/runs/{run_id}/resume": lambda run: (
        "POST", f"/workflows/story/runs/{run}/resume", "last_event_index=-1",
    ),
    "A2A SubscribeToTask": lambda run: ("POST", "/a2a/workflows/story", a2a("SubscribeToTask", id=run)),
}  # fmt: skip


@contextlib.contextmanager
def serving(away: float, waiting: Callable[[httpx2.Client], Asked]) -> Iterator[tuple[httpx2.Client, str, Asked, Gate]]:
    """Serve, and have the starter wait for a run at its gate: yields the client of the boss, run, request, gate."""
    gate, _away[0] = Gate(), away
    with served(story(gate), tokens=TOKENS, limits=Limits(away=away), a2a=True, mcp=True) as client:
        client.headers["Authorization"] = f"Bearer {BOSS}"
        asked = waiting(client)
        run_id = None
        while run_id is None:
            runs = client.get("/v1/runs").json()["runs"]
            run_id = next((run["run_id"] for run in runs if run["status"] == "RUNNING" and run["followers"]), None)
        gate.wait_reached(timeout=HANG)
        try:
            yield client, run_id, asked, gate
        finally:
            while _open:
                _open.pop().leave()


def follow(client: httpx2.Client, run_id: str, route: str, secret: str) -> Asked:
    """Follow a run, and wait until the server has counted the follower."""
    before = client.get(f"/v1/runs/{run_id}").json()["followers"]
    method, path, body = FOLLOWING[route](run_id)
    asked = Asked(client, secret, method, path, body, A2A_Version="1.0")
    present(client, run_id, before + 1)
    return asked


def present(client: httpx2.Client, run_id: str, count: int) -> None:
    """Wait until so many clients follow a run, or it has ended; then it is still live, one loop iteration later."""
    until(client, run_id, lambda run: run["followers"] == count or run["status"] == "CANCELLED")
    assert client.get(f"/v1/runs/{run_id}").json()["status"] == "RUNNING"


def ends(client: httpx2.Client, run_id: str) -> str:
    """Wait for the end of a run, and return the source of its cancel, or its status."""
    run = until(client, run_id, lambda run: run["status"] in ("CANCELLED", "COMPLETED", "ERROR"))
    return str(run["cancel"]["source"] if run["cancel"] else run["status"])


def timer(client: httpx2.Client, run_id: str) -> Any:
    watch = client.app.state.service.followers._watches.get(run_id)  # type: ignore[attr-defined]
    return watch.timer if watch is not None else None


@pytest.mark.parametrize("route", FOLLOWING)
@pytest.mark.parametrize("waiting", WAITING)
def test_a_follower_that_leaves_ends_no_run(waiting: str, route: str) -> None:
    """A follower that may only read, and one that may cancel: the run whose starter waits goes on to its end."""
    with serving(0.0, WAITING[waiting]) as (client, run_id, _, gate):
        for secret in (READER, STOPPER):
            follow(client, run_id, route, secret).leave()
            present(client, run_id, 1)
            assert timer(client, run_id) is None
        gate.open()
        assert ends(client, run_id) == "COMPLETED"


@pytest.mark.parametrize("route", FOLLOWING)
def test_a_follower_of_a_run_whose_starter_never_came(route: str) -> None:
    """Started with `on_disconnect=cancel`, and nobody waits: a follower that disconnects ends nothing."""
    gate = Gate()
    with served(story(gate), tokens=TOKENS, limits=Limits(away=0.0), a2a=True) as client:
        client.headers["Authorization"] = f"Bearer {BOSS}"
        body = {"workflow": "story", "input": "go", "on_disconnect": "cancel"}
        run_id = client.post("/v1/runs", json=body, headers={"Authorization": f"Bearer {STARTER}"}).json()["run_id"]
        gate.wait_reached(timeout=HANG)
        for secret in (READER, STOPPER, STARTER):
            follow(client, run_id, route, secret).leave()
            present(client, run_id, 0)
        gate.open()
        assert ends(client, run_id) == "COMPLETED"


@pytest.mark.parametrize("waiting", WAITING)
def test_the_starter_that_leaves_ends_its_run(waiting: str) -> None:
    """After the grace the run ends with `client_disconnected`, also if others read it; and not before."""
    with serving(0.0, WAITING[waiting]) as (client, run_id, asked, _):
        follow(client, run_id, "GET /v1/runs/{run_id}/events", READER)
        asked.leave()
        assert ends(client, run_id) == "client_disconnected"
    with serving(LONG, WAITING[waiting]) as (client, run_id, asked, gate):
        asked.leave()
        present(client, run_id, 0)
        assert timer(client, run_id) is not None
        gate.open()
        assert ends(client, run_id) == "COMPLETED"


def test_closing_a_stream_of_agui_cancels_at_once() -> None:
    """A stop button of AG-UI closes the stream: without `?away=` the run ends, whatever the server's grace is."""
    with serving(LONG, start_agui) as (client, run_id, asked, _):
        asked.leave()
        assert ends(client, run_id) == "client_disconnected"


@pytest.mark.parametrize("secret", [STARTER, STOPPER])
def test_a_client_that_may_cancel_keeps_a_run(secret: str) -> None:
    """The starter that returns, or another client that may cancel, keeps the run until it disconnects, too."""
    with serving(0.0, wait_shaped) as (client, run_id, asked, _):
        other = follow(client, run_id, "GET /v1/runs/{run_id}/events", secret)
        asked.leave()
        present(client, run_id, 1)
        other.leave()
        assert ends(client, run_id) == "client_disconnected"


@pytest.mark.parametrize("waiting", SURVIVING)
def test_runs_that_survive_their_clients(waiting: str) -> None:
    """With `on_disconnect=continue`, and as streamed tasks of A2A, runs go on without their starter."""
    with serving(0.0, SURVIVING[waiting]) as (client, run_id, asked, gate):
        asked.leave()
        present(client, run_id, 0)
        gate.open()
        assert ends(client, run_id) == "COMPLETED"


@pytest.mark.parametrize("route", FOLLOWING)
def test_a_call_of_mcp(route: str) -> None:
    """Followers of its run end nothing; closing the response stream is the protocol's cancel, and needs no grace."""
    with serving(LONG, call_mcp) as (client, run_id, asked, _):
        for secret in (READER, STOPPER):
            follow(client, run_id, route, secret).leave()
            present(client, run_id, 1)
        asked.leave()
        assert ends(client, run_id) == "client_disconnected"


def test_presence_needs_the_right_to_cancel() -> None:
    """A token without the scope cancel that hasn't started the run can't be `present`: 403."""
    with serving(LONG, wait_shaped) as (client, run_id, _, gate):
        path = f"/v1/runs/{run_id}/events"
        refused = client.get(path, params={"present": "true"}, headers={"Authorization": f"Bearer {READER}"})
        assert refused.status_code == 403 and "scope 'cancel'" in refused.json()["detail"]
        gate.open()


def test_every_streaming_route_is_in_the_table() -> None:
    """A new route that streams must be added above, and to the table in the docs."""
    with served(story(Gate())) as client:
        api = client.get("/openapi.json").json()
    streams = {
        f"{method.upper()} {path}"
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    }
    known = {name.partition("?")[0] for name in (*WAITING, *FOLLOWING)}
    known |= {name.replace("workflows", "agents") for name in known}  # the same functions, for agents
    assert streams <= known
