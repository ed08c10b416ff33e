"""Cancelling over HTTP at critical moments: during start, stream and cancel; twice; too late; from another client."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from server_harness import cancel, following, served, start, status, story, texts, until

from desist import Agent, Step, StepInput, Workflow
from desist.calls.abandoned_threads import abandoned_threads
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel


def test_during_the_stream_from_another_client() -> None:
    """A follower receives one terminal event, last, with the text so far; the other client gets a settled receipt."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client)
        gate.wait_reached()
        with following(client, run_id) as events, httpx2.Client(base_url=client.base_url, trust_env=False) as other:
            seen = [next(events) for _ in range(4)]
            answer = cancel(other, run_id, 5.0, reason="enough", by="ann")
            seen += list(events)
        receipt = answer.json()
        assert answer.status_code == 202
        assert (receipt["outcome"], receipt["status"], receipt["source"]) == ("accepted", "CANCELLED", "user")
        assert (receipt["reason"], receipt["by"]) == ("enough", "ann") and receipt["settled_at"] is not None
        assert [frame.event for frame in seen if frame.event.startswith("Workflow")] == [
            "WorkflowStarted",
            "WorkflowCancelled",
        ]
        assert seen[-1].event == "WorkflowCancelled" and seen[-1].data["content"] == "b0 b1 "
        assert status(client, run_id) == "CANCELLED"


def test_while_it_starts() -> None:
    """Cancels race with starts: each run whose cancel was `accepted` ends CANCELLED, and no run is left live."""
    began: list[str] = []

    async def work(_: StepInput) -> str:
        began.append("x")
        return "done"

    with served(Workflow("Quick", steps=[Step("work", executor=work)])) as client:
        for _ in range(30):
            run_id = start(client, "quick")
            answer = cancel(client, run_id, 5.0)
            run = until(client, run_id, lambda run: run["status"] in ("CANCELLED", "COMPLETED"))
            if answer.status_code == 409:
                assert answer.json()["run_status"] == "COMPLETED" == run["status"]
            else:
                assert answer.status_code in (200, 202) and run["status"] == "CANCELLED"


def test_twice_and_by_many() -> None:
    """Of fifty concurrent requests with different reasons one is accepted; all have the record of the first."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client)
        gate.wait_reached()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: cancel(client, run_id, 5.0, reason=f"reason {n}"), range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
        assert len({(a.json()["reason"], a.json()["requested_at"]) for a in answers}) == 1
        again = cancel(client, run_id)
        assert again.status_code == 200 and again.json()["outcome"] == "already_cancelled"


def test_after_the_end(tmp_path: Path) -> None:
    """A completed run is not cancelled: 409 with its status. A cancelled one is unchanged, also from the store."""
    gate = Gate()
    db = SqliteDb(str(tmp_path / "runs.db"))
    with served(story(gate), db=db) as client:
        stopped = start(client)
        gate.wait_reached()
        first = cancel(client, stopped, 5.0, reason="first").json()
        gate.open()
        run_id = start(client)
        until(client, run_id, lambda run: run["status"] == "COMPLETED")
        answer = cancel(client, run_id)
        assert answer.status_code == 409 and answer.json()["run_status"] == "COMPLETED"
        from desist.cancel.registry import registry

        registry._ended.clear()  # as after a restart
        assert cancel(client, run_id).status_code == 409
        again = cancel(client, stopped, reason="second")
        assert again.status_code == 200 and again.json()["reason"] == "first"
        assert again.json()["requested_at"] == first["requested_at"]


def test_unknown() -> None:
    """An unknown id is 404, and no pending cancel is kept for it."""
    from desist.cancel.registry import registry

    with served(story(Gate())) as client:
        before = registry.pending_cancels
        assert cancel(client, "never-seen").status_code == 404
        assert client.post("/workflows/story/runs/never-seen/cancel").json() == {}
        assert registry.pending_cancels == before


def test_a_childs_id_stops_the_tree() -> None:
    """The id of an agent in a step, as in its events, cancels the whole tree."""
    gate = Gate()
    agent = Agent(name="Bot", model=ScriptedModel([["one ", gate, "two"]]))
    with served(Workflow("Flow", steps=[Step("ask", agent=agent)])) as client:
        run_id = start(client, "flow")
        gate.wait_reached()
        with following(client, run_id) as events:
            child = next(frame for frame in events if frame.event == "RunContent")
            inner = next(run for run in _live_ids() if run != run_id)
            assert child.data["workflow_run_id"] == run_id
            answer = cancel(client, inner, 5.0)
            assert answer.status_code == 202 and answer.json()["run_id"] == run_id
            assert list(events)[-1].event == "WorkflowCancelled"
        assert status(client, inner) == "CANCELLED"


def _live_ids() -> list[str]:
    from desist.cancel.registry import registry

    return [run.run_id for run in registry.live()]


def test_a_deaf_step_and_force() -> None:
    """Before the end of the grace the run is CANCELLING; `force` ends it, and the receipt names the abandoned work."""
    bell, items, held = threading.Event(), queue.SimpleQueue[None](), Gate()

    async def deaf(_: StepInput) -> None:
        try:
            await held.wait()
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()
            while not bell.is_set():
                try:
                    await loop.run_in_executor(None, items.get)
                except asyncio.CancelledError:
                    continue

    with served(Workflow("Deaf", steps=[Step("deaf", executor=deaf)])) as client:
        run_id = start(client, "deaf")
        held.wait_reached()
        answer = cancel(client, run_id, grace=600)
        assert answer.json()["status"] == "CANCELLING" and status(client, run_id) == "CANCELLING"
        forced = cancel(client, run_id, 20.0, force=True)
        assert forced.status_code == 200 and forced.json()["status"] == "CANCELLED"
        assert [item["kind"] for item in forced.json()["abandoned"]]
        bell.set()
        while abandoned_threads():  # each further cancel may have started another job that waits
            items.put(None)


def test_bulk() -> None:
    """A dry run counts and cancels nothing; without it, exactly those runs are cancelled, and no other workflow's."""
    gate, other = Gate(), Gate()
    with served(story(gate), story(other, "Other")) as client:
        ids = [start(client, session_id="s") for _ in range(3)]
        spared = start(client, "other")
        gate.wait_reached(3)
        other.wait_reached()
        ask = {"workflow": "story", "session_id": "s", "reason": "all of them"}
        dry = client.post("/v1/runs/cancel", json={**ask, "dry_run": True}).json()
        assert dry == {"dry_run": True, "count": 3, "run_ids": ids, "receipts": []}
        assert {status(client, run_id) for run_id in ids} == {"RUNNING"}
        done = client.post("/v1/runs/cancel", json=ask).json()
        assert done["count"] == 3 and {r["reason"] for r in done["receipts"]} == {"all of them"}
        for run_id in ids:
            until(client, run_id, lambda run: run["status"] == "CANCELLED")
        assert status(client, spared) == "RUNNING"
        cancel(client, spared, 5.0)


def test_compensations_run() -> None:
    """`compensate` undoes finished steps, and the receipt lists them."""
    gate, undone = Gate(), []

    def book(_: StepInput) -> str:
        return "booked"

    async def wait(_: StepInput) -> AsyncIterator[str]:
        await gate.wait()
        yield "never"

    steps = [Step("book", executor=book, compensate=lambda output: undone.append("book")), Step("w", executor=wait)]
    with served(Workflow("Trip", steps=steps, grace=20.0)) as client:
        run_id = start(client, "trip")
        gate.wait_reached()
        receipt = cancel(client, run_id, 20.0, compensate=True).json()
        assert undone == ["book"]
        assert [(hook["kind"], hook["status"]) for hook in receipt["cleanup"]] == [("compensate", "done")]


def test_text_before_the_cancel_is_kept() -> None:
    """Text that was emitted before the cancel is stored; a late follower receives the end once."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client)
        gate.wait_reached()
        cancel(client, run_id, 5.0)
        with following(client, run_id) as events:
            seen = list(events)
        assert texts(seen) == "" and seen[-1].data["content"] == "b0 b1 "
        last = seen[-1].id
        answer = client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(last)})
        assert answer.status_code == 204
