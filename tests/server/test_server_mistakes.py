"""Unexpected exceptions and deeply nested requests: the responses, and the lines in the log."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from server_harness import served, start, story, until

from desist import Step, Workflow
from desist.db import SqliteDb
from desist.testing import Gate

pytestmark = pytest.mark.loud


def mistakes(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_unexpected_error_is_logged_once_with_its_request_and_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 contains no details; the log has the cause, the request and the run, once."""

    async def fail(*_: Any) -> None:
        raise KeyError("the cause")

    with served(story(Gate())) as client:
        monkeypatch.setattr(client.app.state.service.runs, "find", fail)  # type: ignore[attr-defined]
        answer = client.get("/v1/runs/run-17")
    assert answer.status_code == 500 and "cause" not in answer.text
    (record,) = mistakes(caplog)
    assert record.getMessage() == "GET '/v1/runs/run-17' of run 'run-17' failed: KeyError: 'the cause'"
    assert record.exc_info is not None


def test_a_record_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The list contains the run and the others; the run itself is a 500 that names it, logged once with the cause."""
    path = tmp_path / "runs.db"
    db = SqliteDb(str(path))
    workflow = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")], db=db)
    with served(workflow) as client:
        bad, good = start(client, "quick"), start(client, "quick")
        for run_id in (bad, good):
            until(client, run_id, lambda run: run["status"] == "COMPLETED")
        db.flush()
        with sqlite3.connect(path) as other:
            (table,) = other.execute(
                "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE '%runs'"
            ).fetchone()
            other.execute(f"UPDATE {table} SET output = 'nonsense' WHERE run_id = ?", (bad,))
        other.close()
        listed = {run["run_id"]: run for run in client.get("/v1/runs").json()["runs"]}
        assert listed[good]["store_error"] is None and listed[bad]["status"] == "COMPLETED"
        assert "can't be read" in listed[bad]["store_error"]
        assert mistakes(caplog) == []
        answer = client.get(f"/v1/runs/{bad}")
        assert answer.status_code == 500 and bad in answer.json()["detail"] and "JSON" not in answer.text
    (record,) = mistakes(caplog)
    assert f"GET '/v1/runs/{bad}' of run '{bad}' failed: UnreadableError" in record.getMessage()
    db.close()


@pytest.mark.parametrize("depth", [50, 200, 900, 5000, 100_000])
def test_deep_json_of_clients_is_no_server_error(depth: int, caplog: pytest.LogCaptureFixture) -> None:
    """Any nesting is accepted, or refused as the client's error; never a 500."""
    lists, dicts = "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth
    gate = Gate()
    gate.open()
    with served(story(gate)) as client:
        headers = {"content-type": "application/json"}
        for deep in (lists, dicts):
            for path, body in (
                ("/v1/runs", f'{{"workflow": "story", "input": {deep}}}'),
                ("/v1/runs", f'{{"workflow": "story", "input": "go", "session_state": {deep}}}'),
                ("/v1/runs", deep),
                ("/v1/runs/none/cancel", f'{{"reason": {deep}}}'),
                ("/v1/runs/cancel", f'{{"run_ids": {deep}}}'),
                ("/v1/runs/none/continue", f'{{"x": {deep}}}'),
            ):
                answer = client.post(path, content=body, headers=headers)
                assert answer.status_code in (202, 400, 404, 413, 422), (path, answer.text)
                assert answer.headers["content-type"].startswith(("application/problem+json", "application/json"))
        for run in client.get("/v1/runs").json()["runs"]:
            until(client, run["run_id"], lambda run: run["status"] in ("COMPLETED", "ERROR"))
        assert client.get("/v1/runs").status_code == 200
    assert mistakes(caplog) == []
