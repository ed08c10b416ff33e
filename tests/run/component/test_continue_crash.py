"""C2, C3, C7: a process is killed in mid-run, and another one goes on with what it left in the database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from continue_crash_program import SCENES, Ledger

from desist import RunStatus
from desist.db import SqliteDb
from desist.run.records.message import CANCELLED_RESULT

PROGRAM = Path(__file__).with_name("continue_crash_program.py")
S = RunStatus
Left = Callable[[str], Any]


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Left]:
    """Runs a scene until it waits, kills it with SIGKILL, and builds the same thing anew on the file that it left."""
    file = tmp_path / "runs.db"
    opened: list[SqliteDb] = []

    def run(scene: str) -> tuple[Any, Ledger]:
        command = [sys.executable, str(PROGRAM), str(file), scene]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        word = child.stdout.readline()
        child.kill()
        _, told = child.communicate()
        assert word == b"READY\n", told.decode()
        opened.append(SqliteDb(file))
        ledger = Ledger(file)
        return SCENES[scene](opened[-1], ledger, None), ledger

    yield run
    for db in opened:
        db.close()


BEFORE = ["first", "left", "right", "round", "round", "inner", "deep", "stuck"]


def test_a_killed_workflow_is_continued(left: Left) -> None:
    """What had finished in steps, branches, rounds, nested workflows and containers is taken over; the rest runs."""
    workflow, ledger = left("steps")
    assert sorted(ledger.words) == sorted(BEFORE)
    crashed = workflow.get_run("r")
    assert crashed.status is S.error and "ended without storing" in crashed.error
    output = workflow.continue_run(run_id="r")
    assert output.status is S.completed and output.content == "last after stuck after deep after inner after None"
    assert ledger.words[len(BEFORE) :] == ["stuck", "last"]
    assert [step.step_name for step in output.step_results] == ["first", "both", "rounds", "nested", "last"]
    assert all(step.finished for step in output.step_results)
    assert (output.continued_from, output.session_id, output.user_id, output.input) == ("r", "s", "u", "buy it")
    assert workflow.get_run("r").status is S.error, "the dead run stays what it was"


def test_a_decision_is_not_made_again(left: Left) -> None:
    """What a selector had chosen holds, though it would choose something else now."""
    workflow, ledger = left("choice")
    output = workflow.continue_run(run_id="r")
    assert output.status is S.completed and output.step_results[0].chosen == ["a"]
    assert ledger.words == ["selected", "worked", "worked"]


@pytest.mark.parametrize("scene", ["shop", "shop_alone"])
def test_a_call_that_was_torn_is_not_made_again(scene: str, left: Left) -> None:
    """C2: the tool that ran when its process died may have had effects. It is told as stopped, and not called again."""
    runner, ledger = left(scene)
    assert ledger.words == ["looked", "ordered"]
    output = runner.continue_run(run_id="r")
    assert (output.status, output.content) == (S.completed, "It may be ordered already.")
    assert ledger.words == ["looked", "ordered"]
    [run] = output.step_executor_runs if scene == "shop" else [output]
    results = {message.tool_name: message.content for message in run.messages if message.role == "tool"}
    assert results == {"look_up": "in stock", "order": CANCELLED_RESULT}


def test_a_torn_call_is_not_made_again_by_the_same_run(left: Left) -> None:
    """C2: the same for a run that is resumed after the crash, under its own id."""
    workflow, ledger = left("shop_resumed")
    assert workflow.resume_lost_runs() == ["r"]
    *_, last = workflow.follow("r")
    assert (last.status, ledger.words) == (S.completed, ["looked", "ordered"])
    output = workflow.get_run("r")
    results = {m.tool_name: m.content for m in output.step_executor_runs[-1].messages if m.role == "tool"}
    assert output.content == "It may be ordered already."
    assert results == {"look_up": "in stock", "order": CANCELLED_RESULT}


def test_continued_without_having_been_looked_at(left: Left) -> None:
    """`continue_run` by the id alone finds out that the process is gone; a second time it continues the same run."""
    workflow, ledger = left("steps")
    first, second = workflow.continue_run(run_id="r"), workflow.continue_run(run_id="r")
    assert first.status is second.status is S.completed and first.run_id != second.run_id
    assert ledger.words[-4:] == ["stuck", "last", "stuck", "last"]


def test_killed_again_while_it_was_continued(left: Left) -> None:
    """A continuation that is killed itself can be continued: what it had taken over is recorded as its own, too."""
    left("steps")
    workflow, ledger = left("again")
    first, second = workflow.get_session("s").runs
    output = workflow.continue_run(run_id=second.run_id)
    assert output.status is S.completed and output.content == "last after stuck after deep after inner after None"
    assert ledger.words == [*ledger.words[: len(BEFORE)], "stuck", "stuck", "last"]
    assert output.continued_from == second.run_id and second.continued_from == first.run_id == "r"
