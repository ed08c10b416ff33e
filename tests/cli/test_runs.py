"""`desist runs`, `show`, `cancel`, `continue`, `resume`: on a database of other processes, and on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_commands import DESIST, PROGRAM, Call, Program, elsewhere, ended, recorded, serving
from pseudo_terminal import Terminal

# -- looking


def test_runs_and_show(desist: Call, tmp_path: Path) -> None:
    """Runs are listed, filtered and shown, from a file or a URL; exit code 3 if none matches."""
    db = tmp_path / "runs.db"
    first, second = ended(db, session_id="s1"), ended(db, "Other One", user_id="ann")
    code, out, _ = desist("runs", "--db", f"sqlite:///{db}")
    assert code == 0
    assert out.index(second) < out.index(first) and out.count("✓ COMPLETED") == 2
    for options, expected in (
        (["--workflow", "Other One"], [second]),
        (["--workflow", "fast"], [first]),
        (["--session", "s1"], [first]),
        (["--user", "ann"], [second]),
        (["--status", "completed", "--limit", "1"], [second]),
        (["--live"], []),
        (["--older-than", "1h"], []),
    ):
        code, out, _ = desist("runs", "--db", str(db), "--json", *options)
        assert [run["run_id"] for run in json.loads(out)] == expected
        assert code == (0 if expected else 3)
    code, out, _ = desist("show", first, "--db", str(db))
    assert code == 0
    for words in ("Fast  ✓ COMPLETED", first, "s1", "└── ✓ one", "done"):
        assert words in out


def test_ids_are_whole_in_a_terminal_of_80_columns(tmp_path: Path) -> None:
    """A narrow terminal shows fewer columns instead of truncating each: an id can be copied."""
    run_id = ended(tmp_path / "runs.db")
    with Terminal(*DESIST[1:], "runs", "--db", str(tmp_path / "runs.db")) as terminal:
        assert terminal.wait() == 0
        assert run_id in terminal.text and "COMPLETED" in terminal.text and "s ago" in terminal.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs"], "no database or server"),
        (["runs", "--db", "no-such-file.db"], "no such file"),
        (["runs", "--db", "x.db", "--server", "http://x"], "exclude each other"),
        (["runs", "--server", "x"], "must look like http://"),
        (["runs", "--db", "mysql://u:secret@h/d"], "mysql://u:***@h/d isn't known"),
    ],
)
def test_invalid_databases_and_servers(
    desist: Call, tmp_path: Path, monkeypatch: Any, arguments: list[str], words: str
) -> None:
    """One line and exit code 1; no file is created, no password is printed."""
    monkeypatch.chdir(tmp_path)
    code, out, errors = desist(*arguments)
    assert (code, out) == (1, "")
    assert words in errors and errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_environment_and_the_default(desist: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is `desist.db` in the folder; DESIST_DB has priority; both variables together are an error."""
    monkeypatch.chdir(tmp_path)
    here, other = ended(tmp_path / "desist.db"), ended(tmp_path / "other.db")
    assert here in desist("runs")[1]
    monkeypatch.setenv("DESIST_DB", "other.db")
    assert other in desist("runs")[1]
    monkeypatch.setenv("DESIST_SERVER", "http://127.0.0.1:9")
    code, _, errors = desist("runs")
    assert code == 1 and "both set" in errors


def test_unknown_runs(desist: Call, tmp_path: Path) -> None:
    """An unknown run is exit code 3; a cancel says that the request is kept for a minute."""
    db = tmp_path / "runs.db"
    ended(db)
    code, _, errors = desist("show", "nope", "--db", str(db))
    assert code == 3 and "there is no run 'nope'" in errors
    code, out, _ = desist("cancel", "nope", "--db", str(db))
    assert code == 3 and "within a minute is cancelled" in out


# -- stopping


def test_cancel_a_run_of_another_process(desist: Call, tmp_path: Path) -> None:
    """With `--wait` the receipt says that all work has ended; requester and reason are stored; exit code 4 there."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (program, run_id):
        assert "● RUNNING" in desist("runs", "--live", "--db", str(db))[1]
        code, out, _ = desist("cancel", run_id, "--wait", "--reason", "enough", "--by", "ann", "--db", str(db))
        assert code == 0
        for words in (
            "─ cancelled ",
            "who        ann",
            "why        enough",
            "decided",
            "settled",
            "abandoned  nothing",
        ):
            assert words in out
        ended_with, shown, _ = program.end()
    assert ended_with == 4
    assert json.loads(shown.splitlines()[-1])["cancel"]["by"] == "ann"
    code, out, _ = desist("cancel", run_id, "--db", str(db), "--json")
    assert code == 0 and json.loads(out)[0]["outcome"] == "already_cancelled"
    assert "■ tell" in desist("show", run_id, "--db", str(db))[1]


def test_cancel_many(desist: Call, tmp_path: Path) -> None:
    """`--dry-run` counts and cancels nothing; `--all` with a filter cancels exactly the runs that match."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (one, first), elsewhere(db, "waiting", "StepCompleted") as (other, second):
        code, out, _ = desist("cancel", "--all", "--dry-run", "--db", str(db))
        assert code == 0 and first in out and second in out and "2 runs would be cancelled; nothing was done" in out
        code, out, _ = desist("cancel", "--all", "--older-than", "1h", "--db", str(db))
        assert code == 3
        code, out, _ = desist("cancel", "--all", "--workflow", "Story", "--wait", "--json", "--db", str(db))
        assert code == 0
        assert [(told["run_id"], told["status"]) for told in json.loads(out)] == [(first, "CANCELLED")]
        assert one.end()[0] == 4
        assert other.process.poll() is None
        assert desist("cancel", second, "--force", "--within", "30s", "--db", str(db))[0] == 0
        assert other.end()[0] == 4


def test_a_cancel_that_takes_longer(desist: Call, tmp_path: Path) -> None:
    """`--within`: exit code 5 if the run has not settled; `--force` ends the grace and names abandoned work."""
    db = tmp_path / "runs.db"
    with elsewhere(db, "stubborn", "StepCompleted") as (program, run_id):
        program.until('"step_name": "deaf"')
        code, out, _ = desist("cancel", run_id, "--within", "0s", "--grace", "1h", "--db", str(db))
        assert code == 5 and "accepted: the run is being cancelled" in out and "will end CANCELLED" in out
        assert "◐ CANCELLING" in desist("runs", "--db", str(db))[1]
        code, out, _ = desist("cancel", run_id, "--force", "--wait", "--db", str(db))
        assert code == 0 and "was already being cancelled" in out
        assert program.end()[0] == 4
    assert "abandoned" in desist("show", run_id, "--db", str(db))[1]


def test_too_late(desist: Call, tmp_path: Path) -> None:
    """A run that has ended is not changed: exit code 4, and its status is shown."""
    db = tmp_path / "runs.db"
    run_id = ended(db)
    code, out, _ = desist("cancel", run_id, "--db", str(db))
    assert code == 4 and "too late: the run had already ended COMPLETED" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no runs given"),
        (["--workflow", "x"], "--all"),
        (["a-run", "--all"], "either RUN ids"),
        (["a-run", "--grace", "soon"], "isn't a time"),
        (["a-run", "--scope", "branch"], "--scope"),
    ],
)
def test_usage(desist: Call, arguments: list[str], words: str) -> None:
    """Contradicting options are a usage error, exit code 2, before a database is opened."""
    code, _, errors = desist("cancel", *arguments)
    assert code == 2 and words in errors


# -- going on


def test_continue(desist: Call, tmp_path: Path) -> None:
    """A cancelled run continues as a new one with the finished steps; a completed one can't."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (program, run_id):
        program.signal()
        assert program.end()[0] == 130
    with Program("continue", run_id, f"{PROGRAM}:story", "--db", str(db), "--json") as program:
        again = program.until("upon")
        program.signal()
        assert program.end()[0] == 130
    assert '"step_name": "notes"' not in again.partition("StepOutput")[0]  # it isn't begun again
    code, out, _ = desist("runs", "--db", str(db), "--json")
    assert [run["continued_from"] for run in json.loads(out)] == [run_id, None]
    code, _, errors = desist("continue", "nope", f"{PROGRAM}:story", "--db", str(db))
    assert code == 3 and "there is no run 'nope'" in errors


def test_resume(tmp_path: Path) -> None:
    """Runs of a killed process are resumed under their ids, and the command waits for their ends."""
    db = tmp_path / "runs.db"
    file = tmp_path / "billing.py"
    file.write_text(
        "import os, time\nfrom desist import *\nfrom desist.db import SqliteDb\n\n"
        f"def send(_):\n    if os.path.exists({str(tmp_path / 'sent')!r}):\n        return 'sent'\n"
        f"    open({str(tmp_path / 'sent')!r}, 'w').close()\n    print('sending', flush=True)\n    time.sleep(3600)\n\n"
        "steps = [Step('check', executor=lambda given: 'ok'), Step('send', executor=send)]\n"
        f"billing = Workflow('Billing', steps=steps, db=SqliteDb({str(db)!r}), on_crash='resume')\n"
    )
    with Program("run", str(file), "--json") as program:
        run_id = program.line()["run_id"]
        program.until("sending")
        recorded(db, run_id, "RUNNING")
        program.signal(9)
    with Program("resume", str(file), "--json") as program:
        code, shown, errors = program.end()
    assert code == 0, errors
    output = json.loads(shown)
    assert (output["run_id"], output["status"], output["content"]) == (run_id, "COMPLETED", "sent")


# -- a server


def test_on_a_server(desist: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands have the same results on a server: runs, show, cancel by id and by filter, with a token."""
    secret = "a-secret-of-some-length"
    with serving("story", "waiting", token=secret) as (_, url):
        code, _, errors = desist("runs", "--server", url)
        assert code == 1 and "DESIST_TOKEN" in errors
        monkeypatch.setenv("DESIST_SERVER", url)
        monkeypatch.setenv("DESIST_TOKEN", secret)
        assert desist("runs")[0] == 3
        with Program("run", "story", "--json", DESIST_SERVER=url, DESIST_TOKEN=secret) as program:
            run_id = str(program.line()["run_id"])
            program.until("upon")
            assert run_id in desist("runs", "--status", "RUNNING")[1]
            assert "Story  ● RUNNING" in desist("show", run_id)[1]
            assert "1 run would be cancelled" in desist("cancel", "--all", "--dry-run")[1]
            code, out, _ = desist("cancel", "--all", "--workflow", "story", "--wait", "--by", "ann")
            assert code == 0 and "who        ann (token token 1)" in out and "settled" in out
            assert program.end()[0] == 4
        code, out, _ = desist("cancel", run_id, "--json")
        assert (code, json.loads(out)[0]["outcome"]) == (0, "already_cancelled")
        code, out, _ = desist("cancel", "nope")
        assert code == 3 and "there is no such run" in out
        assert desist("show", "nope")[0] == 3
