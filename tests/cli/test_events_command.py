"""`desist events` and `desist db`: print the events of a run of any process, from any event on, and delete them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_commands import Call, Program, elsewhere, ended, recorded, serving


def test_events_of_a_run_that_has_ended(desist: Call, tmp_path: Path) -> None:
    """Events are printed one per line, as text or JSON, from any index on; exit code 3 for an unknown run."""
    db = tmp_path / "runs.db"
    run_id = ended(db)
    code, out, _ = desist("events", run_id, "--db", str(db), "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and told[-1]["event"] == "WorkflowCompleted"
    assert [event["event_index"] for event in told] == list(range(len(told)))
    code, out, _ = desist("events", run_id, "--from", str(len(told) - 1), "--db", str(db))
    assert (code, out.count("\n")) == (0, 1) and "WorkflowCompleted" in out
    assert desist("events", run_id, "--follow", "--db", str(db))[0] == 0
    assert desist("events", "nope", "--db", str(db))[0] == 3


def test_follow_a_run_of_another_process(desist: Call, tmp_path: Path) -> None:
    """Without --follow: the present events. With it: all events up to the end, each once; exit code 4 for a cancel."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (program, run_id):
        with Program("events", run_id, "--follow", "--json", "--db", str(db)) as follower:
            follower.until("upon")
            code, out, _ = desist("events", run_id, "--db", str(db))
            assert code == 0 and "StepOutput" in out and "Cancelled" not in out
            desist("cancel", run_id, "--db", str(db))
            code, shown, errors = follower.end()
        assert program.end()[0] == 4
    told = [json.loads(line) for line in shown.splitlines()]
    assert code == 4, errors
    assert [event["event_index"] for event in told] == list(range(len(told)))
    assert told[-1]["event"] == "WorkflowCancelled"


@pytest.mark.parametrize("place", ["db", "server"])
def test_a_reader_that_leaves(tmp_path: Path, place: str) -> None:
    """`desist events --follow | head -1` ends with `head`, also if the run emits nothing; the run continues."""
    db = tmp_path / "runs.db"
    if place == "db":
        with elsewhere(db) as (program, run_id):
            leave_after_the_first_line(run_id, "--db", str(db))
            assert program.process.poll() is None
        return
    with serving("story") as (_, url), Program("run", "story", "--json", "--server", url) as program:
        run_id = program.line()["run_id"]
        program.until("upon")
        leave_after_the_first_line(run_id, "--server", url)
        assert program.process.poll() is None


def leave_after_the_first_line(run_id: str, *where: str) -> None:
    with Program("events", run_id, "--follow", *where) as follower:
        follower.until("upon")
        assert follower.process.stdout is not None and follower.process.stderr is not None
        follower.process.stdout.close()
        follower.process.stdout = None
        assert follower.process.wait(40) == 1
        assert follower.process.stderr.read() == b""


def test_ctrl_c_stops_the_following_only(tmp_path: Path) -> None:
    """Ctrl-C ends `desist events` with exit code 130 and without a traceback; the run continues."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (program, run_id):
        with Program("events", run_id, "--follow", "--db", str(db)) as follower:
            follower.until("upon")
            follower.signal()
            assert follower.end()[::2] == (130, "")
        assert program.process.poll() is None


def test_a_server_that_comes_back(tmp_path: Path) -> None:
    """A follower survives a killed server: it resumes after the last event, up to the stored end."""
    db = tmp_path / "runs.db"
    with (
        serving("story", db=str(db)) as (first, url),
        Program("run", "story", "--json", "--server", url) as program,
    ):
        run_id = program.line()["run_id"]
        program.until("upon")
        recorded(db, run_id, "RUNNING")
        first.signal(9)
        first.process.wait(40)
        with serving("story", db=str(db), port=url.rpartition(":")[2]):
            code, shown, errors = program.end()
    told = [json.loads(line) for line in shown.splitlines()]
    assert (code, errors) == (1, "")
    assert told[-1]["run_id"] == run_id and told[-1]["status"] == "ERROR"
    indexes = [event["event_index"] for event in told[:-1]]
    assert indexes == sorted(set(indexes))


def test_prune(desist: Call, tmp_path: Path) -> None:
    """`db prune` deletes the events of ended runs except the terminal ones; --runs the runs, too; --dry-run counts."""
    db = tmp_path / "runs.db"
    run_id = ended(db)
    code, out, _ = desist("db", "prune", "--older-than", "0s", "--runs", "--dry-run", "--json", "--db", str(db))
    assert (code, json.loads(out)) == (0, {"dry_run": True, "events_of": 1, "runs": 1})
    assert desist("db", "prune", "--older-than", "1d", "--db", str(db))[1].startswith("events of 0 runs")
    assert desist("db", "prune", "--older-than", "0s", "--db", str(db))[1].startswith("events of 1 run ")
    _, out, _ = desist("events", run_id, "--json", "--db", str(db))
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["WorkflowCompleted"]
    assert desist("db", "prune", "--older-than", "0s", "--runs", "--db", str(db))[0] == 0
    assert desist("runs", "--db", str(db))[0] == 3
    code, _, errors = desist("db", "prune", "--db", str(db))
    assert code == 2 and "--older-than" in errors
