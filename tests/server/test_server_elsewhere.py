"""Runs of other processes over HTTP: two servers on one file, and a server that is killed and restarted."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
from server_harness import HANG, Frame, cancel, following, served, start, story

from desist.db import SqliteDb
from desist.testing import Gate

PROGRAM = str(Path(__file__).with_name("resumable_program.py"))


@contextlib.contextmanager
def serving(db: Path, *, stops: bool) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """Run `desist serve` on a file; yield the process and a client."""
    command = [sys.executable, "-c", "from desist.cli import main; main()", "serve", "--port", "0"]
    environment = {**os.environ, "STORY_DB": str(db), "STORY_STOPS": "yes" if stops else "no"}
    targets = [f"{PROGRAM}:marked", f"{PROGRAM}:resumed"]
    process = subprocess.Popen([*command, *targets], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        url = next(line for line in process.stderr if "serves on" in line).rpartition(" ")[2].strip()
        with httpx2.Client(base_url=url, timeout=HANG, trust_env=False) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(HANG)
        assert process.stderr is not None
        process.stderr.close()


def piece(frame: Frame) -> str | None:
    made = frame.data.get("step_output") or {}
    return made.get("content") if "step_name" not in made and frame.event == "StepOutput" else None


def up_to(events: Iterator[Frame], text: str) -> list[Frame]:
    found = [next(events)]
    while piece(found[-1]) != text:
        found.append(next(events))
    return found


def numbers(events: list[Frame]) -> list[int]:
    return [frame.id for frame in events if frame.id is not None]


def test_another_server_s_run(tmp_path: Path) -> None:
    """A run of one server is followed and cancelled through another one on the same file."""
    file = tmp_path / "runs.db"
    with serving(file, stops=True) as (_, theirs):
        run_id = start(theirs, "marked")
        db = SqliteDb(file)
        with served(story(Gate(), "Marked", db=db)) as ours:
            with following(ours, run_id) as events:
                seen = up_to(events, "upon ")
                answer = cancel(ours, run_id, reason="enough", by="ann")
                assert answer.status_code == 202 and answer.json()["outcome"] == "accepted"
                seen += events
            assert seen[-1].event == "WorkflowCancelled" and seen[-1].data["reason"] == "enough"
            assert seen[-1].data["content"] == "once upon "
            assert numbers(seen) == list(range(len(seen)))
            with following(theirs, run_id) as events:
                assert [frame.id for frame in events if piece(frame) is None] == [
                    frame.id for frame in seen if piece(frame) is None
                ]
            again = ours.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(seen[-1].id)})
            assert again.status_code == 204
        db.close()


def test_killed_and_started_again(tmp_path: Path) -> None:
    """A client that reconnects to the restarted server with its last id receives the rest, each event once."""
    file = tmp_path / "runs.db"
    with serving(file, stops=True) as (process, client):
        ids = {name: start(client, name) for name in ("marked", "resumed")}
        seen: dict[str, list[Frame]] = {}
        for name, run_id in ids.items():
            with following(client, run_id) as events:
                seen[name] = up_to(events, "upon ")
        db = SqliteDb(file)
        while not all(db.get_run(run_id).step_results for run_id in ids.values()):
            pass  # the first step isn't on the disk yet
        db.close()
        process.kill()
        process.wait(HANG)
    with serving(file, stops=False) as (_, client):
        for name, run_id in ids.items():
            with following(client, run_id, seen[name][-1].id) as events:
                seen[name] += events
            found = numbers(seen[name])
            assert found == sorted(set(found))
            last = client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(found[-1])})
            assert last.status_code == 204
    assert seen["marked"][-1].event == "WorkflowError"
    assert seen["resumed"][-1].event == "WorkflowCompleted"
    done = [frame.data["step_name"] for frame in seen["resumed"] if frame.event == "StepCompleted"]
    assert done == ["first", "tell"], "what had finished isn't told a second time"
    assert seen["resumed"][-1].data["content"] == "once upon a time"
