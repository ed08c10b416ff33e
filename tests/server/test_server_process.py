"""`desist serve` as a process: its address, its errors, and its shutdown."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from server_harness import HANG, Frame, following, start

from desist.cli.commands.serve import _tokens
from desist.cli.import_target import load
from desist.db import SqliteDb
from desist.exceptions import ConfigurationError

PROGRAM = str(Path(__file__).with_name("server_program.py"))
Process = subprocess.Popen[str]


@contextlib.contextmanager
def serving(*more: str) -> Iterator[tuple[Process, httpx2.Client]]:
    """Run `desist serve`; yield the process and a client."""
    run = ["-c", "from desist.cli import main; main()"]
    command = [sys.executable, *run, "serve", f"{PROGRAM}:endless", f"{PROGRAM}:quick", "--port", "0"]
    process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().rpartition(" ")[2].strip()
        with httpx2.Client(base_url=url, timeout=HANG, trust_env=False) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(HANG)
        process.stderr.close()


def rest(process: Process) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def test_sigterm_while_streaming(tmp_path: Path) -> None:
    """The run is cancelled with source `shutdown`, its follower receives the end, the store has it; exit code 0."""
    db = tmp_path / "runs.db"
    with serving("--db", str(db), "--drain", "0") as (process, client):
        run_id = start(client, "endless")
        with following(client, run_id) as events:
            seen = [next(events) for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            seen += list(events)
        assert process.wait(HANG) == 0
        assert seen[-1].event == "WorkflowCancelled" and seen[-1].data["cancel"]["source"] == "shutdown"
        said = rest(process)
        assert "no tokens" in said and "Traceback" not in said
    stored = SqliteDb(str(db))
    run = stored.get_run(run_id)
    assert run.status.value == "CANCELLED" and run.cancel.source.value == "shutdown" and run.content == "once "
    stored.close()


def test_a_drain_refuses_new_runs_and_can_be_skipped() -> None:
    """After SIGTERM new runs are 503, live runs go on and can be read; a second SIGTERM ends the wait."""
    with serving("--drain", "3600") as (process, client):
        run_id = start(client, "endless")
        with following(client, run_id) as events:
            seen: list[Frame] = [next(events)]
            process.send_signal(signal.SIGTERM)
            while client.get("/health").json()["status"] != "closing":
                pass
            refused = client.post("/v1/runs", json={"workflow": "quick"})
            assert refused.status_code == 503 and "retry-after" in refused.headers
            assert client.get(f"/v1/runs/{run_id}").json()["status"] == "RUNNING"
            process.send_signal(signal.SIGTERM)
            seen += list(events)
        assert process.wait(HANG) == 0
        assert seen[-1].data["cancel"]["source"] == "shutdown"


def test_a_drain_ends_with_the_last_run() -> None:
    """When the last run is cancelled during a drain, the server ends at once: exit code 0."""
    with serving("--drain", "3600") as (process, client):
        run_id = start(client, "endless")
        process.send_signal(signal.SIGTERM)
        while client.get("/health").json()["status"] != "closing":
            pass
        assert client.post(f"/v1/runs/{run_id}/cancel", json={}).status_code == 202
        assert process.wait(HANG) == 0


def test_ctrl_c() -> None:
    """Ctrl-C cancels all runs at once with source `interrupt`; exit code 130."""
    with serving() as (process, client):
        run_id = start(client, "endless")
        with following(client, run_id) as events:
            next(events)
            process.send_signal(signal.SIGINT)
            last = list(events)[-1]
        assert process.wait(HANG) == 130 and last.data["cancel"]["source"] == "interrupt"


def test_tokens_of_a_file(tmp_path: Path) -> None:
    """Tokens are read from a TOML file; no secret is printed."""
    secret = "a-secret-of-some-length"
    file = tmp_path / "tokens.toml"
    file.write_text(f'[ann]\nsecret = "{secret}"\nowner = "ann"\nscopes = ["read", "run"]\n')
    file.chmod(0o600)
    with serving("--tokens", str(file)) as (process, client):
        assert client.get("/v1/runs").status_code == 401
        headers = {"Authorization": f"Bearer {secret}"}
        answer = client.post("/v1/runs", json={"workflow": "quick"}, headers=headers)
        assert answer.status_code == 202 and answer.json()["user_id"] == "ann"
        process.terminate()
        assert process.wait(HANG) == 0
        said = rest(process)
        assert secret not in said and "no tokens" not in said


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing", "use module:name"),
        (f"{PROGRAM}:nope", "there: endless, quick"),
        ("missing.py:x", "no file"),
        ("no_such_module:x", "no module"),
    ],
)
def test_unknown_targets(target: str, words: str) -> None:
    """The error names the target and the names that exist."""
    with pytest.raises(ConfigurationError, match=words):
        load(target)


def test_without_the_extra() -> None:
    """Without FastAPI, the error names the command that installs it."""
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "try:\n    from desist.server import create_app\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert "pip install 'desist[server]'" in done.stdout, done.stderr


def test_a_file_of_tokens_that_others_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is used, with a warning that names it and its mode; a private file gives no warning."""
    file = tmp_path / "tokens.toml"
    file.write_text('[ann]\nsecret = "a-secret-of-some-length"\n')
    for mode, words in ((0o640, "mode 0640: use chmod 600"), (0o604, "mode 0604"), (0o600, "")):
        file.chmod(mode)
        assert [token.name for token in _tokens([], file)] == ["ann"]
        said = capsys.readouterr().err
        assert words in said and (str(file) in said) is bool(words) and "a-secret" not in said
