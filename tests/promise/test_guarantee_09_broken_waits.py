"""Guarantee 9. Any time: an exception from outside breaks off the wait for a run; in processes of their own.

Signal handlers of task queues and web servers raise `SystemExit` or an exception of their own in the thread that waits.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from desist import Agent, Step, Workflow
from desist.cancel.registry import registry
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel
from desist.workflow import StepInput

PATIENCE = 100

PROGRAM = """
import asyncio, ctypes, os, random, signal, sys, threading, time
from desist import Agent, Step, Workflow
from desist.cancel.registry import registry
from desist.db import SqliteDb
from desist.testing import Gate, ScriptedModel

db = SqliteDb({path!r})

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

class Said(Gate):
    def _arrive(self, wake):
        arrived = super()._arrive(wake)
        say("READY")
        return arrived

gate = Said()

def wait_sync(given):
    try:
        gate.wait_blocking({patience})
    finally:
        say("CLEANED")

class TimeLimit(Exception):
    "As a task queue raises it in a signal handler: an ordinary exception."

class Killed(BaseException):
    "As a thread of a web server gets it."

def raise_on(number, error):
    def handle(number, frame):
        raise error
    signal.signal(number, handle)

def raise_in(thread, error):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))

raise_on(signal.SIGTERM, SystemExit(7))
raise_on(signal.SIGUSR1, TimeLimit("too long"))
raise_on(signal.SIGUSR2, Killed())

agent = Agent(ScriptedModel([["some ", "text ", gate]], repeat=True), name="Writer")
middle = dict(agent=agent) if {middle!r} == "agent" else dict(executor=wait_sync)
workflow = Workflow(
    "W",
    steps=[Step("one", executor=lambda given: "one"), Step("two", **middle), lambda given: say("NEXT STEP")],
    db=db,
    on_cancel=lambda output: say("HOOK"),
    grace={grace},
)

def in_body(event):
    if event.event == "RunContent" and event.content == "text ":
        say("BODY")
        time.sleep({patience})
"""

FACES = {
    "whole": "workflow.run('go', run_id='r')",
    "stream": "for event in workflow.run('go', run_id='r', stream=True): pass",
    "body": "for event in workflow.run('go', run_id='r', stream=True): in_body(event)",
    "named": "events = workflow.run('go', run_id='r', stream=True)\nfor event in events: in_body(event)",
    "with": "with workflow.run('go', run_id='r', stream=True) as events:\n    for event in events: in_body(event)",
    "await": "asyncio.run(wait())",
    "async": "asyncio.run(read())",
}
ASYNC = """
def leave():
    raise SystemExit(7)

async def wait():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
    await workflow.arun('go', run_id='r')

async def read():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
    async for event in workflow.arun('go', run_id='r', stream=True): pass
"""


class Program:
    """A program, what it says, and how it ends."""

    def __init__(self, folder: Path, body: str, *, middle: str, grace: float) -> None:
        self.path = folder / "runs.db"
        source = PROGRAM.format(path=str(self.path), middle=middle, grace=grace, patience=PATIENCE)
        command = [sys.executable, "-c", source + ASYNC + textwrap.dedent(body)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said = ""

    def wait_said(self, word: str) -> Program:
        assert self.process.stdout is not None
        while word not in self.said:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.said
            heard = os.read(self.process.stdout.fileno(), 4096)
            assert heard, (self.said, self.process.communicate())
            self.said += heard.decode()
        return self

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, if one is given; return the exit code and what the program wrote to stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said += out.decode()
        return self.process.returncode, err.decode()

    def stored(self, run_id: str = "r") -> Any:
        """Return the run as it is in the file, read by this process."""
        database = SqliteDb(str(self.path))
        try:
            return database.get_run(run_id)
        finally:
            database.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start programs; none outlives its test."""
    made: list[Program] = []

    def start(body: str, middle: str = "agent", grace: float = 5) -> Program:
        made.append(Program(tmp_path, body, middle=middle, grace=grace))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def assert_cancelled(one: Program, source: str) -> None:
    stored = one.stored()
    assert stored.status == "CANCELLED" and stored.cancel.source.value == source, (stored.status, stored.cancel)
    assert stored.cancel.settled_at is not None and stored.cancel.abandoned == []
    assert [step.success for step in stored.step_results] == [True, False]
    assert "NEXT STEP" not in one.said and one.said.count("HOOK") == 1


IN_BODY = ("body", "named", "with")  #: these wait for a text of the agent
CASES = [(face, "agent") for face in FACES] + [(face, "function") for face in FACES if face not in IN_BODY]


@pytest.mark.parametrize(("face", "middle"), CASES)
def test_system_exit_of_a_signal_handler(face: str, middle: str, program: Callable[..., Program]) -> None:
    """`SystemExit` raised by a handler of SIGTERM: the tree is cancelled with source `shutdown`, cleaned up and stored,
    and the program ends with the exit code of the exception."""
    one = program(FACES[face], middle).wait_said("BODY" if face in IN_BODY else "READY")
    code, err = one.end(signal.SIGTERM)
    assert (code, err) == (7, "")
    assert_cancelled(one, "shutdown")
    assert ("CLEANED" in one.said) == (middle == "function")


def catching(face: str) -> str:
    """Return a program that catches the exception, and says what was live then and at the end."""
    return f"""
try:
{textwrap.indent(FACES[face], "    ")}
except (TimeLimit, Killed) as error:
    live, caught = len(registry.live()), repr(error)
until = time.monotonic() + {PATIENCE}
while registry.live() and time.monotonic() < until:
    time.sleep(0.001)
say("CAUGHT", caught, live)
"""


@pytest.mark.parametrize("error", ["TimeLimit('too long')", "Killed()"])
@pytest.mark.parametrize("face", ["whole", "stream", "body", "with"])
def test_other_exceptions_of_a_signal_handler(face: str, error: str, program: Callable[..., Program]) -> None:
    """Another exception, also an ordinary `Exception`, cancels with source `consumer_closed` and arrives unchanged,
    when the cleanup is done."""
    one = program(catching(face)).wait_said("BODY" if face in ("body", "with") else "READY")
    code, err = one.end(signal.SIGUSR1 if "TimeLimit" in error else signal.SIGUSR2)
    assert (code, err) == (0, "")
    assert f"CAUGHT {error}" in one.said and one.said.index("HOOK") < one.said.index("CAUGHT")
    if face != "body":  # a reader without a name is missed a moment after it was dropped
        assert f"CAUGHT {error} 0" in one.said, one.said
    assert_cancelled(one, "consumer_closed")


@pytest.mark.parametrize("face", ["whole", "stream"])
@pytest.mark.parametrize("main", [True, False])
def test_an_exception_that_another_thread_sets(face: str, main: bool, program: Callable[..., Program]) -> None:
    """An asynchronous exception, as time limits of task queues set it in worker threads, ends the wait."""
    body = f"""
    def watch():
        gate.wait_reached()
        raise_in(worker, Killed)
    def work():
{textwrap.indent(catching(face), "        ")}
    if {main}:
        worker = threading.main_thread()
        threading.Thread(target=watch).start()
        work()
    else:
        worker = threading.Thread(target=work)
        worker.start()
        watch()
    """
    one = program(body)
    assert one.end() == (0, "")
    assert "CAUGHT Killed() 0" in one.said
    assert_cancelled(one, "consumer_closed")


def test_a_second_exception_forces(program: Callable[..., Program]) -> None:
    """A second signal doesn't wait for the cleanup, and the run is stored nevertheless."""
    body = f"""
    def hook(output):
        say("CLEANING")
        threading.Event().wait({PATIENCE})
    workflow.on_cancel = hook
    {FACES["whole"]}
    """
    one = program(body, grace=PATIENCE).wait_said("READY")
    one.process.send_signal(signal.SIGUSR1)
    code, _ = one.wait_said("CLEANING").end(signal.SIGTERM)
    assert code == 7
    stored = one.stored()
    assert (stored.status, stored.cancel.source.value) == ("CANCELLED", "consumer_closed")


def test_system_exit_in_a_tool_is_not_the_end_of_the_process(program: Callable[..., Program]) -> None:
    """Code of a step that leaves the reader of a nested run by `SystemExit` cancels that run, and not the tree."""
    one = program("""
    def leave(given):
        with agent.run("go", run_id="nested", stream=True) as events:
            for event in events:
                sys.exit(3)
    outer = Workflow("O", steps=[Step("leave", executor=leave, on_error="skip"), lambda given: "went on"], db=db)
    say("OUTER", outer.run("go", run_id="r").content)
    """)
    assert one.end() == (0, "")
    assert "OUTER went on" in one.said
    assert one.stored().status == "COMPLETED"


def test_a_nested_run_of_a_call_that_timed_out() -> None:
    """A step whose timeout is over leaves its wait for a nested run, and that run is cancelled with it."""
    gate = Gate()
    inner = Agent(ScriptedModel([["some ", gate]]), name="inner")

    def call(step_input: StepInput) -> str:
        return str(inner.run("go", run_id="nested").content)

    step = Step("call", executor=call, timeout=0.1, max_retries=0, on_error="skip")
    events = Workflow("W", steps=[step, lambda step_input: "went on"]).run("go", stream=True)
    gate.wait_reached()
    nested = registry.get("nested")
    assert nested is not None
    assert list(events)[-1].content == "went on"
    assert nested.settled.wait(PATIENCE)
    assert nested.status == "CANCELLED" and nested.record.source.value == "consumer_closed"


MOMENTS = """
def at_random(error, runs):
    "Break runs off at moments from before their start to after their end."
    def handle(number, frame):
        raise error
    signal.signal(signal.SIGALRM, handle)
    quick = Workflow("Q", steps=[lambda given: "one", Agent(ScriptedModel(["a b c"], repeat=True))], db=db)
    random.seed({seed})
    quick.run("go")  # starts the threads of the library
    for k in range(runs):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.012))
                if k % 2:
                    quick.run("go", run_id=f"q{{k}}")
                else:
                    with quick.run("go", run_id=f"q{{k}}", stream=True) as events:
                        for event in events: pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as caught:
            assert caught is error, repr(caught)
    live = [(run.run_id, run.scope.status.value) for run in registry.live() if not run.settled.wait(10)]
    say("LIVE", live)
at_random({error}, 100)
"""


@pytest.mark.parametrize("error", ["SystemExit(7)", "TimeLimit()"])
def test_random_moments(error: str, program: Callable[..., Program]) -> None:
    """Whenever the exception comes, each stored run has ended, as completed or cancelled, and none lives on."""
    one = program(MOMENTS.format(error=error, seed=7))
    code, err = one.end()  # Python may report an exception that came in a finalizer, where nothing can propagate it
    assert code == 0 and "LIVE []" in one.said, (one.said, err)
    database = SqliteDb(str(one.path))
    ends = [run.status.value for k in range(100) if (run := database.get_run(f"q{k}")) is not None]
    database.close()
    assert set(ends) == {"COMPLETED", "CANCELLED"}
