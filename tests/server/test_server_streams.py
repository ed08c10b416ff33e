"""Following over HTTP: reconnects, disconnects, slow clients, many clients."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from server_harness import HANG, Frame, cancel, following, frames, served, start, story, texts, until

from desist import Step, StepInput, Workflow
from desist.server import Limits
from desist.testing import Gate

LONG = 3600.0  #: seconds: never, in a test
PRESENT = {"params": {"present": "true"}}  #: for a client whose leaving counts


def gone(run: dict[str, Any]) -> bool:
    return bool(run["followers"] == 0)


def there(run: dict[str, Any]) -> bool:
    return bool(run["followers"] == 1)


def over(run: dict[str, Any]) -> bool:
    return run["status"] in ("CANCELLED", "COMPLETED")


@pytest.mark.parametrize("seed", range(5))
def test_random_disconnects_lose_and_double_nothing(seed: int) -> None:
    """A client that disconnects after any event and returns with `Last-Event-ID` gets each event exactly once."""
    gate, dice = Gate(), random.Random(seed)
    with served(story(gate, before=30, after=30)) as client:
        run_id = start(client)
        gate.open()
        seen: list[Frame] = []
        while not seen or not seen[-1].event.startswith("WorkflowC"):
            with following(client, run_id, seen[-1].id if seen else None) as events:
                for frame in events:
                    seen.append(frame)
                    if dice.random() < 0.2:
                        break
        assert [frame.id for frame in seen] == list(range(len(seen)))
        assert texts(seen) == "".join([f"b{n} " for n in range(30)] + [f"a{n} " for n in range(30)])


def test_a_client_that_comes_back_in_time_keeps_its_run() -> None:
    """A client that returns within the grace with its last id loses nothing, and the run goes on to its end."""
    gate = Gate()
    with served(story(gate), limits=Limits(away=LONG)) as client:
        run_id = start(client, on_disconnect="cancel")
        with following(client, run_id, **PRESENT) as events:
            seen = [next(events) for _ in range(4)]
        until(client, run_id, gone)
        watch = client.app.state.service.followers._watches[run_id]  # type: ignore[attr-defined]
        assert watch.timer is not None
        with following(client, run_id, seen[-1].id) as events:
            until(client, run_id, there)
            assert watch.timer is None
            gate.open()
            seen += list(events)
        assert texts(seen) == "b0 b1 a0 a1 " and seen[-1].event == "WorkflowCompleted"


def test_a_lost_client_cancels_its_run() -> None:
    """With `on_disconnect="cancel"` the run ends with source `client_disconnected` after the grace."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client, on_disconnect="cancel", away=0.01)
        with following(client, run_id, **PRESENT) as events:
            next(events)
        run = until(client, run_id, over)
        assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "client_disconnected")


def test_a_cancel_during_the_grace() -> None:
    """A user's cancel during the grace counts, and the timer ends with the run."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client, on_disconnect="cancel", away=LONG)
        with following(client, run_id, **PRESENT) as events:
            next(events)
        until(client, run_id, gone)
        receipt = cancel(client, run_id, 5.0, reason="mine").json()
        assert (receipt["source"], receipt["reason"]) == ("user", "mine")
        again = start(client)  # a turn of the loop later
        cancel(client, again, 5.0)
        assert client.app.state.service.followers._watches == {}  # type: ignore[attr-defined]


def test_one_of_two_is_lost() -> None:
    """The run goes on as long as a client follows that may cancel it."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client, on_disconnect="cancel", away=0.0)
        with following(client, run_id) as stays:
            next(stays)
            with following(client, run_id, **PRESENT) as leaves:
                next(leaves)
            until(client, run_id, there)
            gate.open()
            assert list(stays)[-1].event == "WorkflowCompleted"


def test_by_default_a_run_survives_its_clients() -> None:
    """`on_disconnect="continue"`: the run completes without clients."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client)
        with following(client, run_id) as events:
            next(events)
        until(client, run_id, gone)
        gate.open()
        assert until(client, run_id, over)["status"] == "COMPLETED"


def test_fifty_follow_one() -> None:
    """Fifty clients of one run receive the same events; a cancel reaches all of them as the last event."""
    gate = Gate()
    joined = threading.Barrier(51)

    def follow(client: httpx2.Client, run_id: str) -> list[tuple[int | None, str]]:
        own = httpx2.Client(base_url=client.base_url, timeout=HANG, trust_env=False)
        with own, following(own, run_id) as events:
            seen = [next(events) for _ in range(4)]
            joined.wait(HANG)
            seen += list(events)
        return [(frame.id, frame.event) for frame in seen]

    with served(story(gate)) as client, ThreadPoolExecutor(50) as pool:
        run_id = start(client)
        told = [pool.submit(follow, client, run_id) for _ in range(50)]
        joined.wait(HANG)
        assert client.get(f"/v1/runs/{run_id}").json()["followers"] == 50
        cancel(client, run_id, 5.0)
        heard = [future.result(HANG) for future in told]
        assert all(one == heard[0] for one in heard)
        assert heard[0][-1][1] == "WorkflowCancelled"
        until(client, run_id, gone)


def _unread(client: httpx2.Client, run_id: str, query: str = "") -> socket.socket:
    """Request the events, and never read the response."""
    client_socket = socket.socket()
    client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client_socket.connect(("127.0.0.1", client.base_url.port or 0))
    client_socket.sendall(f"GET /v1/runs/{run_id}/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return client_socket


def flood(gate: Gate, pieces: int) -> Workflow:
    """A workflow that waits, then emits many events."""

    async def tell(_: StepInput) -> AsyncIterator[str]:
        await gate.wait()
        for number in range(pieces):
            yield f"{number} " + "x" * 1000

    return Workflow("Flood", steps=[Step("tell", executor=tell)])


def test_a_client_that_never_reads_holds_nothing_up() -> None:
    """The run ends, other clients get all of it, and for the silent client only a position is kept, no copy."""
    gate = Gate()
    with served(flood(gate, 5000)) as client:
        run_id = start(client, "flood")
        with _unread(client, run_id):
            until(client, run_id, there)
            with following(client, run_id) as events:
                gate.open()
                seen = list(events)
            assert [frame.id for frame in seen] == list(range(len(seen))) and len(seen) > 5000
            from desist.run.execution.follow import recent_streams

            assert recent_streams.get(run_id).replay == len(seen)  # type: ignore[union-attr]
            assert client.get(f"/v1/runs/{run_id}").json()["followers"] == 1
        until(client, run_id, gone)


@pytest.mark.loud
def test_a_client_that_reads_nothing_is_lost() -> None:
    """A client that reads nothing for `patience` seconds counts as disconnected: its run is cancelled."""
    gate, end = Gate(), Gate()

    async def tell(_: StepInput) -> AsyncIterator[str]:
        await gate.wait()
        for number in range(5000):
            yield f"{number} " + "x" * 1000
        await end.wait()

    with served(Workflow("Flood", steps=[Step("tell", executor=tell)]), limits=Limits(patience=0.1)) as client:
        run_id = start(client, "flood", on_disconnect="cancel", away=0.0)
        with _unread(client, run_id, "?present=true"):
            until(client, run_id, there)
            gate.open()
            run = until(client, run_id, over)
        assert run["cancel"]["source"] == "client_disconnected"


def test_events_that_are_no_longer_stored() -> None:
    """Resuming too late is 410 with the first stored event; a follower that is too far behind gets an error."""
    from desist.cancel.registry import registry

    gate = Gate()
    with served(story(gate, before=10)) as client:
        run_id = start(client)
        gate.wait_reached()
        channel: Any = registry.get(run_id).channel  # type: ignore[union-attr]
        with channel._lock:
            while len(channel._kept) > 3:
                channel._kept.popleft()
        answer = client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "2"})
        assert answer.status_code == 410 and "are no longer stored" in answer.json()["detail"]
        cancel(client, run_id, 5.0)


def test_silence_is_filled() -> None:
    """While a run emits nothing, its stream sends comments."""
    gate = Gate()
    with served(story(gate), limits=Limits(ping=0.01)) as client:
        run_id = start(client)
        with client.stream("GET", f"/v1/runs/{run_id}/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 1000"
            assert any(line == ": ping" for line in lines)
            gate.open()
            assert list(frames(lines))[-1].event == "WorkflowCompleted"


def test_streams_per_client() -> None:
    """A stream beyond a client's limit is refused with 429; when one is closed, the next is accepted."""
    gate = Gate()
    with served(story(gate), limits=Limits(streams=1)) as client:
        run_id = start(client)
        with following(client, run_id) as events:
            next(events)
            assert client.get(f"/v1/runs/{run_id}/events").status_code == 429
            refused = client.post("/v1/runs", json={"workflow": "story", "input": "go", "stream": True})
            assert refused.status_code == 429
        until(client, run_id, gone)
        with following(client, run_id) as events:
            next(events)
        cancel(client, run_id, 5.0)
