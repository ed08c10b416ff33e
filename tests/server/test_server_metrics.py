"""`/metrics`: what a monitoring system reads, in the text format of Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

from server_harness import served, start, story

from desist.db import SqliteDb
from desist.server import Token
from desist.testing import Gate

SECRET = "a secret of the operator"
LINE = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\]|\\.)*"(,\w+="([^"\\]|\\.)*")*\})? [-+\d.e]+')


def samples(text: str) -> dict[str, float]:
    """Return the samples; fail if a line is not in the format."""
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
    assert text.endswith("\n")
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_live_runs_and_cancels_are_counted() -> None:
    """Live runs of this server are a gauge, cancel requests a counter by outcome."""
    gate = Gate()
    with served(story(gate)) as client:
        run_id = start(client)
        gate.wait_reached()
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert samples(answer.text) == {"desist_live_runs": 1}
        for _ in range(2):
            client.post(f"/v1/runs/{run_id}/cancel?wait=30", json={})
        assert samples(client.get("/metrics").text) == {
            "desist_live_runs": 0,
            'desist_cancel_requests_total{outcome="accepted"}': 1,
            'desist_cancel_requests_total{outcome="already_cancelled"}': 1,
        }


def test_queues_are_counted(tmp_path: Path) -> None:
    """Depth and age of the queue of each workflow, and its workers, whatever the workflow is called."""
    db = SqliteDb(tmp_path / "runs.db")
    first, second = story(Gate(), "First", db=db), story(Gate(), "Second", id='quote " and \\', db=db)
    queued = [first.submit("go"), first.submit("go"), second.submit("go")]
    with served(first, second) as client:
        found = samples(client.get("/metrics").text)
        assert found['desist_queued_runs{workflow="first"}'] == 2
        assert found['desist_queued_runs{workflow="quote \\" and \\\\"}'] == 1
        assert found['desist_queue_oldest_seconds{workflow="first"}'] >= 0
        assert found['desist_queue_workers{workflow="first"}'] == 0
        assert 'desist_workflow_limit{workflow="first"}' not in found
        assert found['desist_workflow_paused{workflow="first"}'] == found['desist_worker_runs{workflow="first"}'] == 0
        db.set_limit("first", 3)
        db.pause_workflow("first")
        found = samples(client.get("/metrics").text)
        assert found['desist_workflow_limit{workflow="first"}'] == 3
        assert found['desist_workflow_paused{workflow="first"}'] == 1
        for run in queued:
            assert run.cancel().wait(30)
        db.store.workers.remove_ended()  # type: ignore[attr-defined]
        assert samples(client.get("/metrics").text)['desist_queued_runs{workflow="first"}'] == 0
    db.close()


def test_a_token_of_all_users_is_needed() -> None:
    """The counts are of all users: no token, one of a user, or one that may not read gets nothing."""
    tokens = [
        Token(secret=SECRET, name="operator", scopes=["read"]),
        Token(secret=SECRET + "2", name="ann", owner="ann"),
        Token(secret=SECRET + "3", name="runner", scopes=["run"]),
    ]
    with served(story(Gate()), tokens=tokens) as client:
        codes = [
            client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}{end}"}).status_code
            for end in ("", "2", "3")
        ]
        assert [*codes, client.get("/metrics").status_code] == [200, 403, 403, 401]
