"""`desist watch`: its screen and its keys, on a database and on a server. Leaving cancels nothing."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_commands import DESIST, Program, elsewhere, ended, serving
from pseudo_terminal import Terminal
from rich.console import Console

from desist.cli.client import open_client
from desist.cli.client.run_tree import RunTree
from desist.cli.terminal.keys import keys_of
from desist.cli.watch.screen import watch_screen

WATCH = [*DESIST[1:], "watch"]


def test_cancelling_from_the_list(tmp_path: Path) -> None:
    """`x` cancels the selected run of any process; the answer is shown, and printed again after `q`."""
    db = tmp_path / "runs.db"
    ended(db, "Older")
    with elsewhere(db) as (program, run_id), Terminal(*WATCH, "--db", str(db), size=(120, 24)) as terminal:
        terminal.read_until("● RUNNING")
        for words in ("1 live run, 2 shown", "Older", "tell", "cancels it"):
            terminal.read_until(words)
        terminal.press("x")
        terminal.read_until("settled after")
        assert program.end()[0] == 4
        terminal.press("x")
        terminal.read_until("the run has already ended: CANCELLED")
        terminal.press("q")
        assert terminal.wait() == 0
        assert run_id in terminal.raw.rpartition("\x1b[?1049l")[2]
        assert terminal.current_modes() == terminal.modes


def test_one_run(tmp_path: Path) -> None:
    """Arrows select a run, enter opens it with its steps and text, escape goes back. A second `x` skips the cleanup."""
    db = tmp_path / "runs.db"
    with (
        elsewhere(db, "stubborn", '"step_name": "deaf"') as (program, _),
        elsewhere(db),
        Terminal(*WATCH, "--db", str(db), size=(120, 24)) as terminal,
    ):
        terminal.read_until("2 live runs")
        terminal.press("\x1b[B\r")
        terminal.read_until("● deaf")
        assert "✓ notes" in terminal.text and "esc" in terminal.text
        terminal.press("x")
        terminal.read_until("x again leaves no time")
        terminal.press("x")
        terminal.read_until("thread 'deaf'")
        assert program.end()[0] == 4
        terminal.press("\x1b")
        terminal.read_until("1 live run,")
        terminal.press("q")
        assert terminal.wait() == 0


def test_a_run_by_its_id(tmp_path: Path) -> None:
    """`desist watch RUN` shows one run; exit code 3 for an unknown one; after Ctrl-C the run continues."""
    db = tmp_path / "runs.db"
    with elsewhere(db) as (program, run_id):
        with Terminal(*WATCH, run_id, "--db", str(db)) as terminal:
            terminal.read_until("once upon")
            terminal.press("\x03")
            assert terminal.wait() == 130
            assert "Traceback" not in terminal.text
            assert terminal.current_modes() == terminal.modes
        assert program.process.poll() is None
    with Terminal(*WATCH, "nope", "--db", str(db)) as terminal:
        assert terminal.wait() == 3
        assert "there is no run 'nope'" in terminal.text


def test_sigterm(tmp_path: Path) -> None:
    """A watch that ends by SIGTERM restores the terminal: modes, screen and cursor."""
    db = tmp_path / "runs.db"
    ended(db)
    with Terminal(*WATCH, "--db", str(db)) as terminal:
        terminal.read_until("COMPLETED")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 143
        assert terminal.current_modes() == terminal.modes
        assert terminal.raw.rfind("\x1b[?1049l") > terminal.raw.rfind("\x1b[?1049h")
        assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")


class InterruptedFile(io.StringIO):
    """A terminal at which the program ends during the first picture, as by a SIGTERM."""

    def write(self, text: str) -> int:
        """Write, then exit once the picture is there."""
        written = super().write(text)
        if "desist watch" in text:
            sys.exit(143)
        return written


def test_a_signal_during_the_first_picture(tmp_path: Path) -> None:
    """A signal that arrives while the screen is opened leaves a usable terminal, too."""
    ended(tmp_path / "runs.db")
    client, file = open_client(str(tmp_path / "runs.db"), None, None), InterruptedFile()
    console = Console(file=file, force_terminal=True, width=80, height=24, _environ={})
    with contextlib.closing(client), pytest.raises(SystemExit):
        watch_screen(client, None, console)
    shown = file.getvalue()
    assert shown.rfind("\x1b[?1049l") > shown.rfind("\x1b[?1049h") > -1
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


def test_a_lost_server() -> None:
    """A lost server: the last state stays, the loss is shown, `x` says that it failed; then the server returns."""
    with serving("story") as (server, url), Program("run", "story", "--json", "--server", url) as program:
        program.until("upon")
        with Terminal(*WATCH, "--server", url, size=(160, 24)) as terminal:
            terminal.read_until("RUNNING")
            terminal.read_until("waits for")
            server.signal(9)
            server.process.wait(40)
            terminal.read_until("lost for")
            terminal.press("x")
            terminal.read_until("NOT cancelled")
            with serving("story", port=url.rpartition(":")[2]):
                terminal.read_until("no runs yet")
                terminal.press("q")
                assert terminal.wait() == 0
        program.signal(9)


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_terminal(tmp_path: Path, as_json: bool) -> None:
    """In a pipe: a line for each change; for one run up to its end, with an exit code that says how it ended."""
    db = tmp_path / "runs.db"
    options = ["--json"] if as_json else []
    with elsewhere(db) as (program, run_id), Program("watch", run_id, "--db", str(db), *options) as watching:
        watching.until("RUNNING")
        program.signal()
        code, shown, _ = watching.end()
    assert code == 4 and "\x1b" not in shown
    if as_json:
        assert [json.loads(line)["status"] for line in shown.splitlines()][-1] == "CANCELLED"
    else:
        assert "CANCELLED" in shown.splitlines()[-1] and run_id in shown


# -- the parts


def test_keys() -> None:
    """Several keys in one read are separated: arrows in both modes, characters, escape alone."""
    assert keys_of("\x1b[A\x1bOBx\r\x1b") == ["up", "down", "x", "enter", "escape"]


def step(event: str, step_id: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "step_id": step_id, "step_name": step_id, **more}


def test_a_tree_of_nested_steps() -> None:
    """Steps are inside their containers, tool calls inside their steps; each has its own end."""
    story = RunTree()
    for event in (
        step("ParallelExecutionStarted", "both"),
        step("StepStarted", "left", parent_step_id="both"),
        step("StepStarted", "right", parent_step_id="both"),
        step("ToolCallStarted", "left", tool={"tool_call_id": "1", "tool_name": "look"}),
        step("RunContent", "right", content="so "),
        step("ToolCallCancelled", "left", tool={"tool_call_id": "1", "tool_name": "look", "abandoned": True}),
        step("StepCancelled", "left", step_response={"duration": 1.5}),
    ):
        story.take(event)
    (both,) = story.steps
    left, right = both.inside
    assert (left.status, left.seconds, left.inside[0].status, left.inside[0].note) == (
        "CANCELLED",
        1.5,
        "CANCELLED",
        "abandoned",
    )
    assert (right.status, story.open_steps(), story.text) == ("RUNNING", ["both", "right"], "so ")


def test_a_tree_without_started_events() -> None:
    """A run without `stream_events` emits no started events: a step is seen when it emits text."""
    story = RunTree()
    story.take(step("RunContent", "first", content="a"))
    story.take(step("StepOutput", "second", step_output={"content": "b", "step_name": "second", "duration": 0.1}))
    story.take(step("RunContent", "third", content="c"))
    assert [(node.name, node.status) for node in story.steps] == [
        ("first", ""),
        ("second", "COMPLETED"),
        ("third", "RUNNING"),
    ]
    assert story.text == "a\n\nb\n\nc"
