"""`desist` as a process: version, help, errors, and the demo with its JSON, picture, signals and keys."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import Terminal

import desist
from desist.testing import LoopbackProvider, Reply

PROGRAM = ["-c", "from desist.cli import main; main()"]
#: Longer than any test: what ends the story is the test.
NEVER = ["--after", "1000"]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def test_version() -> None:
    """`desist --version` prints the version."""
    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"desist {desist.__version__}\n")


def test_the_program_starts_without_the_dependencies_of_its_commands() -> None:
    """A command imports what it needs when it is called, so that each command and each completion starts fast."""
    code = "import sys, desist.cli; print({'rich.console', 'pydantic', 'httpx2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_help_names_the_commands() -> None:
    """Without arguments, `desist` lists the commands."""
    shown = call().stdout + call("--help").stdout
    assert "demo" in shown
    assert "model" in shown


@pytest.mark.parametrize("arguments", [["demo", "--colour"], ["demo", "--after", "soon"], ["dance"]])
def test_unknown_options_and_commands_are_usage_errors(arguments: list[str]) -> None:
    """Unknown options, values and commands are named in the error; exit code 2."""
    done = call(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert arguments[min(1, len(arguments) - 1)].strip("-") in done.stderr


def test_the_scripted_demo_as_json() -> None:
    """`--json` prints one JSON object and nothing else. The run is stored as CANCELLED, with its finished step."""
    done = call("demo", "--scripted", "--after", "2", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is facts["scripted"] is facts["model_stopped"] is True
    assert facts["status"] == facts["stored_status"] == "CANCELLED"
    assert (facts["source"], facts["reason"], facts["by"]) == ("user", "2 s are over", "the demo's timer")
    assert facts["finished_steps"] + facts["interrupted_steps"] >= 1
    assert facts["delivered_ms"] <= facts["settled_ms"] <= facts["terminal_event_ms"]
    assert facts["abandoned"] == []


def test_the_scripted_demo_in_a_pipe() -> None:
    """Without a terminal, the demo is plain text and ends with the receipt, which says that there was no model."""
    done = call("demo", "--scripted", "--after", "1")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    receipt = done.stdout[done.stdout.index("─ cancelled ") :]
    for words in ("the demo's timer", "all work had ended", "kept", "this was a script", "abandoned  nothing"):
        assert words in receipt


def test_errors_are_one_line() -> None:
    """A `DesistError` is one line on standard error and exit code 1."""
    done = call("demo", "--scripted", "--model", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --scripted and --model exclude each other: use one of them\n"


def test_a_missing_key_is_named() -> None:
    """`--model` without an API key names the variable to set."""
    done = call("demo", "--model", "some-model", OPENAI_API_KEY="", COLUMNS="200")
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_provider_is_one_line() -> None:
    """An error of the provider is shown with its message; exit code 1."""
    with LoopbackProvider(Reply(status=401, error="no such key")) as provider:
        done = call("demo", "--model", "m", *NEVER, OPENAI_API_KEY="k", OPENAI_BASE_URL=provider.base_url)
    assert done.returncode == 1
    assert "no such key" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_closes_the_connection_to_the_provider() -> None:
    """Ctrl-C closes the connection to the provider; the run is stored as CANCELLED; exit code 130."""
    with LoopbackProvider(Reply(text="A dragon.")) as provider:
        provider.enqueue(Reply(text="Ember."), Reply(tokens=1_000_000, token_interval=0.01))
        command = [sys.executable, *PROGRAM, "demo", "--model", "m", "--json", *NEVER]
        environment = {**os.environ, "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider.base_url}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, env=environment) as program:
            writing = provider.wait_request(2, timeout=30)
            writing.wait_sent(3)
            os.killpg(program.pid, signal.SIGINT)
            writing.wait_closed()
            shown, _ = program.communicate(timeout=30)
        assert program.returncode == 130
    facts = json.loads(shown)
    assert (facts["status"], facts["stored_status"], facts["source"]) == ("CANCELLED", "CANCELLED", "interrupt")
    assert (facts["upstream_closed"], facts["finished_steps"], facts["abandoned"]) == (1, 1, [])


def test_a_run_that_completes_fails_the_json_demo() -> None:
    """With `--json`, a run that completes before the cancel is exit code 1: no cancel was measured."""
    with LoopbackProvider(Reply(text="The end.")) as provider:
        arguments = ("demo", "--model", "m", "--json", *NEVER)
        done = call(*arguments, OPENAI_API_KEY="k", OPENAI_BASE_URL=provider.base_url)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "COMPLETED"


def interrupted(*arguments: str, number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Run the demo in a process group of its own until it streams, send a signal, return code, stdout and stderr."""
    command = [sys.executable, *PROGRAM, "demo", "--scripted", *NEVER, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, stdin=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        shown = ""
        while "› writing" not in shown:
            line = program.stdout.readline()
            assert line, program.stderr.read()
            shown += line
        os.killpg(program.pid, number)
        rest, errors = program.communicate(timeout=30)
        return program.returncode, shown + rest, errors


def test_ctrl_c_is_a_cancel_with_a_receipt() -> None:
    """Ctrl-C cancels the run and shows the receipt; exit code 130, no traceback."""
    code, shown, errors = interrupted()
    assert (code, errors) == (130, "")
    assert "who        Ctrl-C" in shown
    assert "1 finished step" in shown


def test_sigterm_ends_it_quietly() -> None:
    """SIGTERM unwinds the demo: exit code 143, no traceback."""
    code, _, errors = interrupted(number=signal.SIGTERM)
    assert (code, errors) == (143, "")


def test_a_key_cancels_the_run() -> None:
    """Any key cancels the run with source `user`. Earlier input is discarded; the terminal modes are restored."""
    with Terminal(*PROGRAM, "demo", "--scripted", *NEVER) as terminal:
        terminal.press("early")
        terminal.read_until("writing")
        assert terminal.current_modes() != terminal.modes
        terminal.press("q")
        assert terminal.wait() == 0
        assert "you, at the keyboard" in terminal.text
        assert "a key was pressed" in terminal.text
        assert terminal.current_modes() == terminal.modes


def test_ctrl_c_at_a_terminal() -> None:
    """Ctrl-C still sends SIGINT while keys are watched; the terminal modes and the cursor are restored."""
    with Terminal(*PROGRAM, "demo", "--scripted", *NEVER) as terminal:
        terminal.read_until("writing")
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert "who        Ctrl-C" in terminal.text
        assert "Traceback" not in terminal.text
        assert terminal.current_modes() == terminal.modes


def test_sigterm_at_a_terminal_restores_it() -> None:
    """A demo that ends by SIGTERM restores the terminal."""
    with Terminal(*PROGRAM, "demo", "--scripted", *NEVER) as terminal:
        terminal.read_until("writing")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 143
        assert terminal.current_modes() == terminal.modes


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """`desist demo | head -1` ends with its reader, without a traceback."""
    command = [sys.executable, *PROGRAM, "demo", "--scripted", *NEVER]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.wait(30) == 1
        assert program.stderr.read() == ""


def test_a_recording_is_a_picture_without_the_network(tmp_path: Path) -> None:
    """`--record` writes an SVG with the text, the steps and the receipt, and without references to other hosts."""
    path = tmp_path / "demo.svg"
    done = call("demo", "--scripted", "--after", "1", "--record", str(path))
    assert done.returncode == 0, done.stderr
    picture = path.read_text()
    words = re.sub(r"&#160;", " ", picture)
    for part in ("desist demo --after 1 --scripted", "research", "cancelled", "this was a script", "abandoned"):
        assert part in words
    assert set(re.findall(r"https?://[^\"'<\s)]+", picture)) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }
    assert "@import" not in picture and 'url("' not in picture


def test_an_invalid_recording_path_is_an_early_error(tmp_path: Path) -> None:
    """An invalid path of `--record` is an error before the run starts."""
    done = call("demo", "--scripted", *NEVER, "--record", str(tmp_path / "no" / "demo.svg"))
    assert done.returncode == 1
    assert "there is no such folder" in done.stderr
