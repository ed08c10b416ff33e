"""Guarantee 9. Any time: A19, A20: Ctrl-C and the end of the interpreter, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cancel_trial
import pytest

PROGRAM = """
import asyncio, os, pathlib, signal, sys, time
from cancel_trial import Journal
from desist import Agent, Step, Workflow
from desist.testing import Gate, ScriptedModel, Call

journal = Journal(pathlib.Path({journal!r}))

def say(word):
    os.write(1, (word + "\\n").encode())  # in one piece, whatever other threads say

class Said(Gate):  # tells the parent when something waits here
    def _arrive(self, wake):
        arrived = super()._arrive(wake)
        say("READY")
        return arrived

gate = Said()

async def wait_async(given):
    try:
        await gate.wait()
    finally:
        say("CLEANED")

def wait_sync(given):
    try:
        gate.wait_blocking(30)
    finally:
        say("CLEANED")

def after(given):
    say("NEXT STEP")

talker = Agent(ScriptedModel([["some ", "text ", gate]]), name="Talker", db=journal)

def workflow(middle):
    return Workflow("W", steps=[Step("one", executor=lambda g: "one"), Step("two", **middle), after], db=journal)

{body}
"""

AGENT, ASYNC, SYNC = "dict(agent=talker)", "dict(executor=wait_async)", "dict(executor=wait_sync)"
WHOLE = "workflow({middle}).run('go', run_id='r')"
STREAM = "for event in workflow({middle}).run('go', run_id='r', stream=True): pass"
AWHOLE = "asyncio.run(workflow({middle}).arun('go', run_id='r'))"
ASTREAM = """
async def main():
    async for event in workflow({middle}).arun('go', run_id='r', stream=True):
        pass
asyncio.run(main())
"""
IN_THE_BODY = """
for event in workflow({middle}).run('go', run_id='r', stream=True):
    if event.event == "RunContent" and event.content == "text ":
        say("BODY")
        time.sleep(30)
"""
IN_THE_BODY_NAMED = """
events = workflow({middle}).run('go', run_id='r', stream=True)
for event in events:
    if event.event == "RunContent" and event.content == "text ":
        say("BODY")
        time.sleep(30)
"""
IN_THE_BODY_WITH = """
with workflow({middle}).run('go', run_id='r', stream=True) as events:
    for event in events:
        if event.event == "RunContent" and event.content == "text ":
            say("BODY")
            time.sleep(30)
"""


class Program:
    """A program of a user, in its own process, and what it wrote to its journal."""

    def __init__(self, folder: Path, body: str) -> None:
        self.journal = folder / "journal"
        source = PROGRAM.format(journal=str(self.journal), body=textwrap.dedent(body))
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(cancel_trial.__file__).parent)},
        )
        self.lines: list[str] = []

    def wait_said(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.strip() == word:
                return
        raise AssertionError(self.process.communicate())

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send it a signal, or let it be; return its exit code and what it said on stderr."""
        begun = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        self.lines += out.split("\n")
        assert time.monotonic() - begun < 10, "it didn't end at once"
        return self.process.returncode, err

    def stored(self, run_id: str = "r") -> dict[str, Any]:
        rows = self.journal.read_text().splitlines()
        saved = [(json.loads(head), json.loads(body)) for head, body in zip(rows[::2], rows[1::2], strict=True)]
        ends = [body for head, body in saved if head["run_id"] == run_id and head["status"] not in ("PENDING",)]
        assert len(ends) == 1, saved
        kinds = {head["kind"]: head["status"] for head, _ in saved}
        assert set(kinds.values()) == {ends[0]["status"]}, kinds
        return ends[0]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Start programs; none outlives its test."""
    made: list[Program] = []

    def start(body: str) -> Program:
        made.append(Program(tmp_path, body))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


CTRL_C = {
    "sync": (WHOLE, [AGENT, ASYNC, SYNC], {"interrupt"}),
    "sync-stream": (STREAM, [AGENT, ASYNC, SYNC], {"interrupt"}),
    "consumer, anonymous reader": (IN_THE_BODY, [AGENT], {"interrupt"}),
    "consumer, named reader": (IN_THE_BODY_NAMED, [AGENT], {"interrupt"}),
    "consumer, with": (IN_THE_BODY_WITH, [AGENT], {"interrupt"}),
    "async": (AWHOLE, [AGENT, ASYNC, SYNC], {"interrupt"}),
    "async-stream": (ASTREAM, [AGENT, ASYNC, SYNC], {"interrupt"}),
}
CASES = [(way, middle) for way, (_, middles, _) in CTRL_C.items() for middle in middles]


@pytest.mark.parametrize(("way", "middle"), CASES)
def test_ctrl_c(way: str, middle: str, program: Callable[[str], Program]) -> None:
    """A19: Ctrl-C cancels and stores the whole tree, runs its cleanup, starts no next step, and ends the program."""
    body, _, sources = CTRL_C[way]
    one = program(body.format(middle=middle))
    one.wait_said("BODY" if "consumer" in way else "READY")
    code, err = one.end(signal.SIGINT)
    assert code in (130, -signal.SIGINT), (code, err)
    assert err.strip().endswith("KeyboardInterrupt") and "Exception ignored" not in err, err
    assert "NEXT STEP" not in one.lines
    assert ("CLEANED" in one.lines) == (middle != AGENT)
    stored = one.stored()
    assert stored["status"] == "CANCELLED" and stored["cancel"]["source"] in sources
    assert [step["success"] for step in stored["step_results"]] == [True, False]
    assert stored["content"] == ("some text " if middle == AGENT else "one")


def test_ctrl_c_that_is_caught(program: Callable[[str], Program]) -> None:
    """A19: a program that catches the Ctrl-C finds the run stored, and goes on."""
    body = (
        "try:\n    "
        + WHOLE.format(middle=SYNC)
        + """
except KeyboardInterrupt:
    stored = journal.load_run('r').output
    say(f"{stored.status.value} {stored.cancel.source.value} {stored.cancel.settled_at is not None}")
again = Workflow("W2", steps=[lambda given: "works"]).run("go")
say(again.content)
"""
    )
    one = program(body)
    one.wait_said("READY")
    code, err = one.end(signal.SIGINT)
    assert (code, err) == (0, "")
    assert "CANCELLED interrupt True" in one.lines and "works" in one.lines and "NEXT STEP" not in one.lines


@pytest.mark.parametrize("middle", [AGENT, ASYNC, SYNC])
def test_the_interpreter_ends_with_a_live_run(middle: str, program: Callable[[str], Program]) -> None:
    """A20: a program that ends while a run is live ends at once; the run is cancelled, stored, and cleaned up."""
    body = f"""
    import threading
    reader = workflow({middle}).run('go', run_id='r', stream=True)
    gate.wait_reached()
    """
    one = program(body)
    code, err = one.end()
    assert (code, err) == (0, "")
    assert ("CLEANED" in one.lines) == (middle != AGENT) and "NEXT STEP" not in one.lines
    stored = one.stored()
    assert stored["status"] == "CANCELLED" and stored["cancel"]["source"] in ("shutdown", "consumer_closed")


@pytest.mark.parametrize("middle", [AGENT, ASYNC, SYNC])
def test_a_program_that_exits_from_another_thread_of_work(middle: str, program: Callable[[str], Program]) -> None:
    """A20: `sys.exit` while a daemon thread waits for a run: the run is stored as cancelled, with source shutdown."""
    body = f"""
    import threading
    threading.Thread(target=lambda: workflow({middle}).run('go', run_id='r'), daemon=True).start()
    gate.wait_reached()
    sys.exit(3)
    """
    one = program(body)
    code, err = one.end()
    assert (code, err) == (3, "")
    assert one.stored()["cancel"]["source"] == "shutdown" and "NEXT STEP" not in one.lines


def test_a_forked_child_starts_anew(program: Callable[[str], Program]) -> None:
    """A child made by fork knows nothing of its parent's runs, and can run its own."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    body = f"""
    import os, warnings
    warnings.simplefilter("ignore")
    reader = workflow({AGENT}).run('go', run_id='r', stream=True)
    gate.wait_reached()
    child = os.fork()
    if child == 0:
        from desist import cancel_run
        fine = not cancel_run('r') and Workflow("C", steps=[lambda g: "in the child"]).run("go").content
        say(fine)
        os._exit(0)
    os.waitpid(child, 0)
    assert workflow(dict(executor=after)).cancel('r', reason="now")
    say(list(reader)[-1].reason)
    """
    one = program(body)
    code, err = one.end()
    assert (code, err) == (0, "")
    assert "in the child" in one.lines and "now" in one.lines
