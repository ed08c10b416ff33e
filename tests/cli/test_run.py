"""`desist run`: the output, Ctrl-C at any moment, here and on a server, and the exit codes."""

from __future__ import annotations

import io
import json
import signal
import socket
import sys
from pathlib import Path

import pytest
from cli_commands import DESIST, PROGRAM, Call, Program, serving
from pseudo_terminal import Terminal

from desist.db import SqliteDb


def target(name: str) -> str:
    return f"{PROGRAM}:{name}"


def last(shown: str) -> dict[str, object]:
    return dict(json.loads(shown.rstrip().rpartition("\n")[2]))


def test_a_run_is_shown_with_its_steps(desist: Call) -> None:
    """In a pipe: the text without control codes, the steps as a tree, the result; exit code 0."""
    code, out, errors = desist("run", target("quick"), "a dragon")
    assert (code, errors) == (0, "")
    assert "\x1b" not in out
    for words in ("› a dragon", "said: a dragon", "├── ✓ notes", "    ├── ✓ left", "✓ completed in"):
        assert words in out


def test_an_agent_and_standard_input(desist: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent is run like a workflow; `-` reads the input from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello?"))
    code, out, _ = desist("run", target("talker"), "-")
    assert code == 0 and "› hello?" in out and "Hello there." in out


def test_as_json(desist: Call) -> None:
    """`--json` prints the events one per line, numbered, then the output, and nothing else."""
    code, out, _ = desist("run", target("quick"), '{"a": 1}', "--json-input", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [event["event_index"] for event in lines[:-1]] == list(range(len(lines) - 1))
    assert (lines[0]["event"], lines[-2]["event"]) == ("WorkflowStarted", "WorkflowCompleted")
    assert (lines[-1]["status"], lines[-1]["input"], code) == ("COMPLETED", {"a": 1}, 0)


def test_a_failed_run_is_exit_code_1(desist: Call) -> None:
    """The error is one line without a traceback."""
    code, out, errors = desist("run", target("failing"))
    assert code == 1
    assert "✗ failed after" in out and "no such dragon" in out
    assert "Traceback" not in out + errors


def test_a_timeout_is_exit_code_4(desist: Call) -> None:
    """A limit cancelled the run, not the user."""
    code, out, _ = desist("run", target("waiting"), "--timeout", "0.2s")
    assert code == 4 and "a deadline" in out


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nothing.py", "there is no file nothing.py"),
        (PROGRAM, "more than one workflow: name one of"),
        (f"{PROGRAM}:nope", "there: story"),
        ("no_such_module", "no module 'no_such_module'"),
    ],
)
def test_unknown_targets(desist: Call, place: str, words: str) -> None:
    """The error is one line and lists the names that exist."""
    code, out, errors = desist("run", place)
    assert (code, out) == (1, "")
    assert words in errors and errors.count("\n") == 1


def test_a_program_that_cant_be_loaded(desist: Call, tmp_path: Path) -> None:
    """The error and its line are named; the error is not reported as a bug of desist."""
    broken = tmp_path / "broken.py"
    broken.write_text("import desist\nraise KeyError('moon')\n")
    code, _, errors = desist("run", str(broken))
    assert code == 1
    assert f"KeyError: 'moon' ({broken}:2)" in errors and "bug" not in errors


def test_the_only_workflow_needs_no_name(desist: Call, tmp_path: Path) -> None:
    """`desist run FILE` runs the only workflow; with --db the run is stored."""
    file, db = tmp_path / "only_one.py", tmp_path / "runs.db"
    file.write_text("from desist import *\nonly = Workflow('Only', steps=[Step('s', executor=lambda given: 'done')])\n")
    assert desist("run", str(file), "--db", str(db), "--session", "s1")[0] == 0
    runs = json.loads(desist("runs", "--db", str(db), "--json")[1])
    assert [(run["id"], run["status"], run["session_id"]) for run in runs] == [("only", "COMPLETED", "s1")]


# -- stopped


@pytest.mark.parametrize(
    ("name", "moment"),
    [("waiting", "› silent"), ("tooled", "I look.")],
    ids=["before the first token", "in a tool"],
)
def test_ctrl_c(name: str, moment: str) -> None:
    """Ctrl-C cancels the run at any moment: the kept text is shown, exit code 130, no traceback."""
    with Program("run", target(name), "go") as program:
        program.until(moment)
        program.signal()
        code, shown, errors = program.end()
    assert code == 130
    assert "who        Ctrl-C" in shown and "settled" in shown
    assert "Traceback" not in shown + errors


def test_ctrl_c_is_stored(tmp_path: Path) -> None:
    """The run is stored as CANCELLED with source `interrupt` and its text before the command ends."""
    db = tmp_path / "runs.db"
    with Program("run", target("story"), "--json", "--db", str(db)) as program:
        run_id = str(program.line()["run_id"])
        program.until("upon")
        program.signal()
        code, shown, _ = program.end()
    assert (code, last(shown)["status"]) == (130, "CANCELLED")
    stored = SqliteDb(db)
    run = stored.get_run(run_id)
    stored.close()
    assert (run.status.value, run.cancel.source.value, run.content) == ("CANCELLED", "interrupt", "once upon ")


def test_ctrl_c_while_it_is_loaded(tmp_path: Path) -> None:
    """Before the run has started there is nothing to cancel: exit code 130 at once."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('loading', flush=True)\ntime.sleep(3600)\n")
    with Program("run", str(slow)) as program:
        program.until("loading\n")
        program.signal()
        assert program.end() == (130, "loading\n", "")


def test_ctrl_c_twice(tmp_path: Path) -> None:
    """The first Ctrl-C leaves the grace for cleanup and says so; the second skips it, and names abandoned work."""
    with Program("run", target("stubborn")) as program:
        program.until("› deaf")
        program.signal()
        program.errors_until("Ctrl-C: cancelling; a second one leaves no time for cleanup")
        assert program.process.poll() is None
        program.signal()
        code, shown, errors = program.end()
    assert code == 130
    assert "abandoned  thread 'deaf'" in shown and "could not be stopped" in " ".join(shown.split())
    assert "Traceback" not in errors


def test_ctrl_c_in_a_call_that_cant_be_stopped() -> None:
    """A thread in a C call is abandoned at the end of the grace; the command ends and says so."""
    with Program("run", target("hopeless")) as program:
        program.until("› deaf")
        program.signal()
        code, shown, _ = program.end()
    assert code == 130
    assert "abandoned  thread 'deaf'" in shown and "could not be stopped" in " ".join(shown.split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals(number: int, code: int) -> None:
    """SIGTERM and a closed terminal cancel the run with source `shutdown`; each has its exit code."""
    with Program("run", target("story"), "--json") as program:
        program.until("upon")
        program.signal(number)
        ended, shown, _ = program.end()
    output = last(shown)
    assert ended == code
    assert (output["status"], output["cancel"]["source"]) == ("CANCELLED", "shutdown")  # type: ignore[index]


def test_nohup() -> None:
    """A signal that was ignored at the start stays ignored: the run continues when the terminal is closed."""
    with Program("run", target("story"), ignoring=signal.SIGHUP) as program:
        program.until("upon")
        program.signal(signal.SIGHUP)
        program.signal()
        code, shown, _ = program.end()
    assert code == 130 and "who        Ctrl-C" in shown


def test_a_reader_that_leaves(desist: Call, tmp_path: Path) -> None:
    """`desist run ... | head -1` cancels the run, also if it emits nothing; exit code 1, no traceback."""
    db = tmp_path / "runs.db"
    with Program("run", target("story"), "--json", "--db", str(db)) as program:
        run_id = str(program.line()["run_id"])
        program.until("upon")
        assert program.process.stdout is not None and program.process.stderr is not None
        program.process.stdout.close()
        program.process.stdout = None
        assert program.process.wait(40) == 1
        assert program.process.stderr.read() == b""
    run = json.loads(desist("show", run_id, "--json", "--db", str(db))[1])
    assert (run["status"], run["cancel"]["source"]) == ("CANCELLED", "consumer_closed")


def test_a_terminal() -> None:
    """On a terminal, the status line shows the running step and the hint.

    Ctrl-C shows the receipt; the cursor is restored.
    """
    with Terminal(*DESIST[1:], "run", target("story"), "a dragon") as terminal:
        terminal.read_until("Ctrl-C cancels it")
        terminal.read_until("upon")
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert "cancelled after" in terminal.text and "Traceback" not in terminal.text
        assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")
        assert terminal.current_modes() == terminal.modes


def test_a_terminal_during_a_cancel() -> None:
    """During a cancel the status line shows its duration, what the run waits for, and what a second Ctrl-C does."""
    with Terminal(*DESIST[1:], "run", target("stubborn"), size=(160, 24)) as terminal:
        terminal.read_until("deaf")
        terminal.press("\x03")
        terminal.read_until("Ctrl-C again skips cleanup")
        assert "cancelling for" in terminal.text and "waits for deaf" in terminal.text
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert "could not be stopped" in terminal.text


# -- on a server


def test_on_a_server(desist: Call) -> None:
    """`--server` starts the run on a server with the same view, an agent too; exit code 3 for an unknown id.

    Ctrl-C is a cancel over HTTP; the end is read from the server; exit code 130.
    """
    with serving("quick", "talker", "failing", "story") as (_, url):
        code, out, errors = desist("run", "quick", "a dragon", "--server", url)
        assert code == 0, errors
        for words in ("said: a dragon", "├── ✓ notes", "✓ completed in"):
            assert words in out
        code, out, _ = desist("run", "talker", "hi", "--server", url)
        assert code == 0 and "Hello there." in out
        assert desist("run", "failing", "--server", url)[0] == 1
        code, _, errors = desist("run", "nothing", "--server", url)
        assert code == 3 and "serves no workflow and no agent 'nothing'" in errors
        with Program("run", "story", "--json", DESIST_SERVER=url) as program:
            run_id = str(program.line()["run_id"])
            program.until("upon")
            program.signal()
            code, shown, errors = program.end()
        assert code == 130, errors
        assert last(shown)["status"] == "CANCELLED"
        run = json.loads(desist("show", run_id, "--server", url, "--json")[1])
        assert (run["status"], run["cancel"]["reason"]) == ("CANCELLED", "Ctrl-C")


def test_ctrl_c_before_a_server_has_answered() -> None:
    """The connection is closed, so that a started run has no follower: exit code 130 at once."""
    deaf = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    with deaf, Program("run", "story", "--server", url) as program:
        connection, _ = deaf.accept()
        with connection:
            connection.settimeout(40)
            assert b"/v1/runs" in connection.recv(65536)
            program.signal()
            assert program.end() == (130, "", "")
            while connection.recv(65536):
                pass


def test_a_server_that_isnt_there(desist: Call) -> None:
    """An unreachable server is one line and exit code 1."""
    code, _, errors = desist("run", "story", "--server", "http://127.0.0.1:9")
    assert code == 1 and "doesn't answer" in errors and errors.count("\n") == 1
