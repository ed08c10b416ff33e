"""A run that can't start leaves no trace: no live run, no record, no session; its id and its cancel are free."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from desist import Agent, RunStatus, Step, Workflow, runs
from desist.db import BaseDb
from desist.exceptions import ConfigurationError, RunIdInUseError, UnsupportedError
from desist.run.agent import RunErrorEvent, RunOutput
from desist.runtime.background_loop import BackgroundLoop
from desist.runtime.run_tasks import RunTasks
from desist.runtime.timer_thread import TimerThread
from desist.testing import Gate, ScriptedModel


def components(db: BaseDb | None = None) -> list[Any]:
    """Return an agent and a workflow."""
    return [
        Agent(ScriptedModel(["x"], repeat=True), db=db),
        Workflow("W", steps=[Step("s", agent=Agent(ScriptedModel(["x"], repeat=True)))], db=db),
    ]


def start_in_all_ways(component: Any, **options: Any) -> list[Callable[[], Any]]:
    """Return the ways to start a run."""

    async def stream() -> None:
        async for _ in component.arun("x", stream=True, **options):
            pass

    async def background() -> None:
        await component.arun("x", background=True, **options)

    return [
        lambda: component.run("x", **options),
        lambda: list(component.run("x", stream=True, **options)),
        lambda: asyncio.run(_awaited(component, options)),
        lambda: asyncio.run(stream()),
        lambda: asyncio.run(background()),
    ]


async def _awaited(component: Any, options: dict[str, Any]) -> Any:
    return await component.arun("x", **options)


NAIVE = dt.datetime(2020, 1, 1)
BAD_OPTIONS: list[dict[str, Any]] = [
    {"timeout": "5"},
    {"timeout": float("nan")},
    {"timeout": -1},
    {"timeout": True},
    {"timeout": dt.timedelta(seconds=5)},
    {"deadline": "tomorrow"},
    {"deadline": NAIVE},
    {"deadline": float("nan")},
    {"budget": 5},
    {"budget": {"tokens": 5}},
    {"session_state": "text"},
    {"session_state": [("a", 1)]},
    {"dependencies": ["a"]},
    {"metadata": "text"},
    {"images": "text"},
    {"on_cancel": "text"},
    {"session_id": 1.5},
    {"unknown": 1},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_a_bad_option_leaves_no_trace(options: dict[str, Any], db: BaseDb) -> None:
    """The error names the option; nothing is live or stored, and the id can be used at once."""
    for component in components(db):
        for number, start in enumerate(start_in_all_ways(component, run_id="same", **options)):
            with pytest.raises((ConfigurationError, UnsupportedError), match=f"{next(iter(options))}"):
                start()
            assert runs() == [] and db.get_run("same") is None and db.get_sessions() == [], number
        assert component.run("x", run_id="same").status is RunStatus.completed
        assert component.delete_session(component.get_run_output("same").session_id)


def test_an_attribute_that_was_set_to_a_text_leaves_no_trace() -> None:
    """A timeout that is wrong only when the run is opened: the run is withdrawn."""
    for component in components():
        component.timeout = "5"
        for start in start_in_all_ways(component, run_id="same"):
            with pytest.raises(TypeError):
                start()
            assert runs() == []
        component.timeout = None
        assert component.run("x", run_id="same").status is RunStatus.completed


def test_a_child_that_cannot_start_leaves_its_parent_alone() -> None:
    """The child is withdrawn from the tree; the step fails by its error, and the workflow ends."""
    agent = Agent(ScriptedModel(["x"]), name="A")
    agent.timeout = "5"  # type: ignore[assignment]
    output = Workflow("W", steps=[Step("s", agent=agent, max_retries=0, on_error="fail")]).run("x")
    assert output.status is RunStatus.error and "str" in str(output.error)
    assert runs() == []


class Question(pydantic.BaseModel):
    topic: str


def test_a_bad_input_leaves_no_trace(db: BaseDb) -> None:
    """Input that doesn't fit the schema, or no input at all."""
    workflow = Workflow("W", steps=[lambda _: "x"], db=db, input_schema=Question)
    agent = Agent(ScriptedModel(["x"], repeat=True), db=db)
    for start in start_in_all_ways(workflow, run_id="same"):
        with pytest.raises(ConfigurationError, match="doesn't fit Question"):
            start()
    for bad in (None, 5, object()):
        with pytest.raises(ConfigurationError, match="input"):
            agent.run(bad, run_id="same")
    assert runs() == [] and db.get_run("same") is None and db.get_sessions() == []
    assert workflow.run({"topic": "t"}, run_id="same").status is RunStatus.completed


@pytest.mark.parametrize("streamed", [False, True])
def test_without_a_loop_nothing_is_opened(streamed: bool) -> None:
    """`arun(stream=True)` outside of a loop says so; a coroutine that is never awaited has opened nothing."""
    for component in components():
        if streamed:
            with pytest.raises(RuntimeError, match="no running event loop: call arun"):
                component.arun("x", stream=True, run_id="same")
        else:
            component.arun("x", run_id="same").close()
        assert runs() == []
        assert component.run("x", run_id="same").status is RunStatus.completed


def test_a_refused_id_does_not_change_the_session() -> None:
    """A run that is refused because its id is live leaves the last session as it was."""
    gate = Gate()
    agent = Agent(ScriptedModel(["first", [gate, "second"]]))
    first = agent.run("x")
    with agent.run("x", stream=True, run_id="live", session_id="s") as events:
        gate.wait_reached()
        with pytest.raises(RunIdInUseError):
            agent.run("x", run_id="live", session_id="other")
        assert agent.get_session().session_id == "s"
        gate.open()
        list(events)
    assert first.session_id != "s"


PROGRAM = """
import resource, sys, threading
from desist import Agent, Workflow, Step, runs
from desist.run.cancel import cancel
from desist.cancel.registry import registry
from desist.testing import ScriptedModel

agent = Agent(ScriptedModel(["x"], repeat=True))
workflow = Workflow("W", steps=[Step("s", agent=agent)])
real = threading.Thread.start

def fail(self):
    raise RuntimeError("can't start new thread")

what = sys.argv[1]
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
for component in (agent, workflow):
    cancel("same", reason="first")
    for _ in range(3):
        if what == "threads":
            threading.Thread.start = fail
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            component.run("x", run_id="same")
        except (RuntimeError, OSError) as error:
            told = str(error)
        else:
            told = "no error"
        threading.Thread.start = real
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        print(told, len(runs()), registry.pending_cancels)
    break
print(agent.run("x", run_id="same").status.value, agent.run("x", run_id="same").status.value)
print(workflow.run("x", timeout=0.01).status.value in ("COMPLETED", "CANCELLED"))
"""


@pytest.mark.parametrize(("what", "words"), [("threads", "can't start new thread"), ("files", "Too many open files")])
def test_without_threads_or_descriptors(what: str, words: str) -> None:
    """The system's error is raised; the cancel that came for the id is kept, and hits the first run that starts."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert all(words in row and row.endswith(" 0 1") for row in rows[:3]), rows
    assert rows[3:] == ["CANCELLED COMPLETED", "True"], rows


@pytest.mark.parametrize("make", [TimerThread, BackgroundLoop])
def test_a_thread_that_could_not_start_is_started_later(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the next use starts the thread, instead of waiting for one that never ran."""
    made = make()
    begin = made.start if make is TimerThread else made.loop

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            begin()
    begin()
    if make is TimerThread:
        reached = threading.Event()
        made.call_at(0.0, reached.set)
        assert reached.wait(30)
    else:
        made.close()


def test_a_loop_that_takes_no_start_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is closed when the start is given to it: nothing was recorded, and the id is free."""
    agent = Agent(ScriptedModel(["x"], repeat=True))
    loop = asyncio.new_event_loop()
    loop.close()
    with monkeypatch.context() as patched:
        patched.setattr("desist.run.execution.run.background_loop.loop", lambda: loop)
        with pytest.raises(RuntimeError, match="closed"):
            agent.run("x", run_id="same")
    assert runs() == [] and agent.get_run_output("same") is None
    assert agent.run("x", run_id="same").status is RunStatus.completed


@pytest.mark.parametrize("streamed", [False, True])
def test_a_start_that_fails_on_the_loop_ends_the_run(streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst moment: the start is recorded, and the task can't be made. The run ends as an error, once."""
    agent = Agent(ScriptedModel(["x"], repeat=True))

    def fail(self: RunTasks, work: Any, context: Any) -> None:
        work.close()
        raise RuntimeError("no task")

    with monkeypatch.context() as patched:
        patched.setattr(RunTasks, "start", fail)
        made = agent.run("x", run_id="same", stream=streamed)
        if isinstance(made, RunOutput):
            assert made.status is RunStatus.error and "no task" in str(made.error)
        else:
            assert [type(event) for event in made] == [RunErrorEvent]
    output = agent.get_run_output("same")
    assert runs() == [] and output is not None and output.status is RunStatus.error
    assert agent.run("x", run_id="same").status is RunStatus.completed


EXIT = """
import asyncio, atexit, sys, threading

def told(what, start):
    try:
        print(what, start().status.value, flush=True)
    except BaseException as error:
        print(what, type(error).__name__, error, flush=True)

class Last:
    def __del__(self):
        told("del", lambda: agent.run("x"))
        told("del async", lambda: asyncio.run(agent.arun("x")))

atexit.register(lambda: told("late", lambda: agent.run("x")))
atexit.register(lambda: told("late async", lambda: asyncio.run(agent.arun("x"))))
atexit.register(lambda: told("late stream", lambda: list(agent.run("x", stream=True))[-1]))
from desist import Agent, Step, Workflow, runs
from desist.testing import ScriptedModel

agent = Agent(ScriptedModel(["x"], repeat=True))
if "warm" in sys.argv:
    told("before", lambda: agent.run("x"))
sys.modules["kept"] = Last()
"""


@pytest.mark.parametrize("warm", ["warm", "cold"])
def test_a_run_that_starts_while_the_interpreter_ends(warm: str) -> None:
    """In an exit handler that runs after desist's, and in a finalizer: a clear error, never a hang."""
    done = subprocess.run([sys.executable, "-c", EXIT, warm], capture_output=True, text=True, timeout=50, check=False)
    rows = [row for row in done.stdout.splitlines() if row != "before COMPLETED"]
    assert [row.split(" DesistError")[0] for row in rows[:3]] == ["late stream", "late async", "late"], done
    assert len(rows) >= 3 and all("the interpreter is ending: no run can start any more" in row for row in rows), done
    assert done.returncode == 0


DAEMON = """
import threading
from desist import Agent
from desist.testing import ScriptedModel

agent = Agent(ScriptedModel(["x"], repeat=True))
begun = threading.Event()

def work():
    while True:
        try:
            agent.run("x")
        except BaseException:
            pass
        begun.set()

threading.Thread(target=work, daemon=True).start()
begun.wait()
"""


def test_a_daemon_thread_that_starts_runs_for_ever() -> None:
    """The program ends, whatever the thread is just doing."""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
