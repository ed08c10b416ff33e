"""`isolation`, `grace` and `interrupt` as options of tools, toolkits and steps."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import process_functions as functions
from desist import Agent, RunContext, Step, Workflow, tool
from desist.cancel import CancelToken
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError
from desist.testing import Call, ScriptedModel
from desist.tools import Function, Toolkit


def answers(tools: list[Any], *calls: Call, **options: Any) -> list[Any]:
    """Return the results of calls that a model makes of tools."""
    agent = Agent(ScriptedModel([*calls, "done"]), tools=tools, **options)
    output = agent.run("go")
    assert output.status is RunStatus.completed, output.content
    return [(execution.result, execution.tool_call_error) for execution in output.tools]


def test_a_tool_in_a_process() -> None:
    """`@tool(isolation="process")` on a function at the top of a module: its arguments are checked as always."""
    assert answers([functions.marked], Call("marked", {"a": 2}), Call("marked", {"a": "x"})) == [
        ("3", False),
        (
            "tool 'marked': argument 'a': Input should be a valid integer, unable to parse string as an integer, "
            "got 'x'",
            True,
        ),
    ]


def test_the_pieces_of_a_generator_tool() -> None:
    """A generator's pieces are joined to one text, as in a thread."""
    assert answers([functions.pieces], Call("pieces")) == [("one two", False)]


def test_a_crash_is_a_tool_error() -> None:
    """A segfault in a tool is told to the model; the run goes on."""
    crash = tool(isolation="process")(functions.crash)
    [(told, failed)] = answers([crash], Call("crash", {"how": "segfault"}))
    assert failed and "'crash' failed: its process was killed by SIGSEGV" in told


def test_a_tool_gets_copies() -> None:
    """`session_state` and `dependencies` are copied to the process; what it changes there doesn't come back."""
    state: dict[str, Any] = {"n": 1}
    [(told, failed)] = answers(
        [functions.remembering], Call("remembering"), session_state=state, dependencies={"key": "value"}
    )
    assert not failed and "'changed': True" in told and "{'key': 'value'}" in told
    assert state == {"n": 1}


def test_dependencies_that_cannot_cross() -> None:
    """A live object among the dependencies is named in the tool's error."""
    with open(os.devnull) as file:
        [(told, failed)] = answers([functions.remembering], Call("remembering"), dependencies={"log": file})
    assert failed and "argument 'dependencies'['log'] (_io.TextIOWrapper)" in told


def test_toolkits() -> None:
    """A toolkit's `isolation` holds for its tools; its object goes along, without its tools."""
    kit = functions.Kit(factor=3)
    [(told, failed), (pid, _)] = answers([kit, functions.MarkedKit()], Call("times", {"a": 2}), Call("pid"))
    assert not failed and told.startswith("[6,")
    assert told != f"[6,{os.getpid()}]" and pid != str(os.getpid())


def test_hooks_run_here() -> None:
    """Hooks of an isolated tool run in this process, around the call."""
    seen: list[Any] = []
    isolated = Function(
        "marked",
        entrypoint=functions.add,
        isolation="process",
        pre_hook=lambda call: seen.append(dict(call.arguments)),
        post_hook=lambda call: seen.append(call.result),
    )
    assert answers([isolated], Call("marked", {"a": 4})) == [("5", False)]
    assert seen == [{"a": 4}, 5]


def test_a_step_in_a_process() -> None:
    """A step's function gets its input and a copy of the state there."""
    steps = [
        Step("first", executor=lambda given: "before"),
        Step("second", executor=functions.step_pid, isolation="process"),
    ]
    output = Workflow("w", steps=steps).run("hello", session_state={"n": 1})
    said, before, pid = output.content.split()
    assert (said, before) == ("hello", "before") and int(pid) != os.getpid()


def asks_run_context(run_context: Any) -> None:
    """Ask."""


def asks_agent(agent: Agent) -> None:
    """Ask."""


def asks_token(cancel_token: CancelToken) -> None:
    """Ask."""


def asks_by_type(context: RunContext) -> None:
    """Ask."""


async def is_async() -> None:
    """Wait."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (asks_run_context, "asks for 'run_context'"),
        (asks_agent, "asks for 'agent'"),
        (asks_token, "asks for 'cancel_token'"),
        (is_async, "'is_async' is async"),
        (functools.partial(asks_agent), "asks for 'agent'"),
    ],
)
def test_tools_that_cannot_be_isolated(function: Callable[..., Any], words: str) -> None:
    """What is linked to the run, and async code, is refused when the tool is made."""
    with pytest.raises(ConfigurationError, match=words):
        Function(entrypoint=function, isolation="process")


def test_a_context_asked_for_by_its_type() -> None:
    """A parameter that is linked by its type is refused when an agent takes the tool."""
    with pytest.raises(ConfigurationError, match="asks for 'run_context'"):
        Agent(ScriptedModel("never asked"), tools=[Function(entrypoint=asks_by_type, isolation="process")])


def test_local_tools_are_refused() -> None:
    """A lambda, a local function and a toolkit of a local class are refused when they are made."""
    with pytest.raises(ConfigurationError, match="defined inside another function"):

        @tool(isolation="process")
        def local() -> None:
            """Local."""

    class Local(Toolkit):
        @tool
        def do(self) -> None:
            """Do."""

    with pytest.raises(ConfigurationError, match="tool 'do' can't run in a process of its own"):
        Local("local", isolation="process")
    with pytest.raises(ConfigurationError, match="a lambda"):
        Function("name", entrypoint=lambda: None, isolation="process")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"isolation": "fork"}, "isolation='fork' is unknown"),
        ({"interrupt": "maybe"}, "interrupt='maybe' is unknown"),
        ({"isolation": "process", "interrupt": "cooperative"}, "has no effect with isolation='process'"),
        ({"isolation": "process", "grace": -1}, "grace=-1 must be 0 seconds or more"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    """Unknown values and contradictions are refused, for tools and steps alike."""
    with pytest.raises(ConfigurationError, match=words):
        Function(entrypoint=functions.add, **options)
    with pytest.raises(ConfigurationError, match=words):
        Step("s", executor=functions.step_pid, **options)


def test_interrupt_is_for_sync_code() -> None:
    """Async code shields itself: the option is refused there, not ignored."""
    with pytest.raises(ConfigurationError, match="is async, so interrupt='never' has no effect"):
        Function(entrypoint=is_async, interrupt="never")
    with pytest.raises(ConfigurationError, match="is async, so interrupt='never' has no effect"):
        Step("s", executor=functions.async_step, interrupt="never")


def test_grace_needs_a_process() -> None:
    """`grace` has no effect in a thread, so it is refused there."""
    with pytest.raises(ConfigurationError, match="grace=1 needs isolation='process'"):
        Agent(ScriptedModel("never asked"), tools=[Function(entrypoint=functions.add, grace=1)])
    with pytest.raises(ConfigurationError, match="grace=1 needs isolation='process'"):
        Step("s", executor=functions.step_pid, grace=1)


def test_steps_that_cannot_be_isolated() -> None:
    """A step refuses what its function asks for, async functions, lambdas, and the options on an agent."""
    for executor, words in (
        (functions.asking_step, "asks for 'run_context'"),
        (functions.async_step, "is async"),
        (lambda given: None, "a lambda"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Step("s", executor=executor, isolation="process")
    with pytest.raises(ConfigurationError, match="are for executor="):
        Step("s", agent=Agent(ScriptedModel("never asked")), isolation="process")


def test_interrupt_of_a_thread_tool() -> None:
    """`interrupt` reaches the worker thread too: a tool with "never" is waited for."""
    inside, release, left = threading.Event(), threading.Event(), threading.Event()

    @tool(interrupt="never")
    def finishing() -> str:
        """Finish."""
        inside.set()
        release.wait(20)
        left.set()
        return "finished"

    agent = Agent(ScriptedModel([Call("finishing"), "never said"]), tools=[finishing])
    run = agent.run("go", stream=True)
    assert inside.wait(20)
    receipt = agent.cancel(run.run_id)
    assert receipt and not receipt.wait(0.1)
    release.set()
    assert receipt.wait(20) and left.is_set() and receipt.abandoned == []
