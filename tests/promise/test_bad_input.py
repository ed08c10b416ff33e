"""What users get wrong: each is a clear error before anything runs, or a run that ends `ERROR` and says why."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from cancel_trial import Journal, Mode, Trial

from desist import Agent, Step, Workflow, cancel_run
from desist.cancel import RunStatus
from desist.exceptions import ConfigurationError, DesistError, RunIdInUseError, UnsupportedError
from desist.models.openai import OpenAIChat
from desist.testing import Call, Gate, LoopbackProvider, Reply, ScriptedModel


def call(runner: Any, mode: Mode, asked: Any = "go", **options: Any) -> Any:
    """Run to the end in a mode; return the output, or the last event's run's."""
    if not mode.asynchronous:
        made = runner.run(asked, stream=mode.stream, **options)
        return list(made)[-1] if mode.stream else made

    async def main() -> Any:
        made = runner.arun(asked, stream=mode.stream, **options)
        return [event async for event in made][-1] if mode.stream else await made

    return asyncio.run(main())


def failed(model: Any, mode: Mode, journal: Journal, asked: Any = "go", **options: Any) -> str:
    """Run an agent in a step that mustn't fail; check that the run ended `ERROR`, stored, and return its words."""
    step = Step("ask", agent=Agent(model, name="A", **options), on_error="fail", max_retries=0)
    trial = Trial(Workflow("W", steps=[step], db=journal), mode).start(asked).finish()
    assert trial.error is None and trial.output.status is RunStatus.error
    stored = journal.last(trial.run_id)
    assert stored["status"] == "ERROR" and stored.get("cancel") is None
    [step_made] = stored["step_results"]
    assert not step_made["success"] and not step_made.get("cancelled")
    if mode.stream:
        assert [event.event for event in trial.events if event.is_terminal][-1] == "WorkflowError"
        assert trial.events[-1].is_error and trial.events[-1].error == step_made["error"]
    return str(step_made["error"])


def test_a_missing_key(mode: Mode, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the error names the variable, before any step runs."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran: list[Any] = []
    workflow = Workflow("W", steps=[ran.append, Agent(OpenAIChat(), name="A")], db=journal)
    for runner in (workflow, Agent(OpenAIChat(), db=journal)):
        with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
            call(runner, mode)
    assert ran == [] and journal.saved == []


def test_no_model(mode: Mode) -> None:
    """An agent without a model says so when it is run."""
    with pytest.raises(ConfigurationError, match="'A' has no model"):
        call(Agent(name="A"), mode)


def test_a_missing_extra() -> None:
    """A missing optional dependency is an error that names the command that installs it."""
    program = """
    import sys
    sys.modules["ddgs"] = None
    from desist.exceptions import MissingExtraError
    from desist.tools.duckduckgo import DuckDuckGoTools
    try:
        DuckDuckGoTools().functions["web_search"].bind('{"query": "x"}', {}).invoke()
    except MissingExtraError as error:
        print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30)
    assert "pip install 'desist[web]'" in done.stdout, done


def test_an_unreachable_host(mode: Mode, journal: Journal) -> None:
    """A server that isn't there: the run ends `ERROR`, and says which server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens here, and nobody else can
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        model = OpenAIChat("m", base_url=f"http://{address}/v1", api_key="sk-0123456789", max_retries=0)
        words = failed(model, mode, journal)
    assert address in words and "connect" in words.lower()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(malformed=b"data: {not json}\n\n"), "isn't a chat completion"),
        (
            Reply(tokens=5, malformed=b"data: \xff\xfe\n\n"),
            "UTF-8|JSON|isn't a chat|before the response was complete",
        ),
        (Reply(malformed=b"<html>a proxy's page</html>"), "before the response was complete"),
        (Reply(tokens=10, drop_after=4), "connection|broke|end"),
        (Reply(drop_before_headers=True), "connection"),
        (Reply(status=401, error="no such key"), "401.*no such key"),
        (Reply(status=500, error="it burns"), "500.*it burns"),
    ],
    ids=["json", "bytes", "html", "dropped", "no answer", "401", "500"],
)
def test_a_server_that_misbehaves(
    reply: Reply, expected: str, mode: Mode, provider: LoopbackProvider, journal: Journal
) -> None:
    """Whatever a server sends: the run ends `ERROR`, with words of ours about what was wrong."""
    import re

    provider.set_default(reply)
    model = OpenAIChat("m", base_url=provider.base_url, api_key="sk-test-0123456789", max_retries=0)
    words = failed(model, mode, journal)
    assert re.search(expected, words, re.DOTALL), words
    assert "sk-test-0123456789" not in words


def test_a_tool_that_raises(mode: Mode, journal: Journal) -> None:
    """A tool's error is told to the model, which goes on; the call is marked."""

    def divide(a: int, b: int) -> float:
        """Divide."""
        return a / b

    model = ScriptedModel([Call("divide", {"a": 1, "b": 0}), "It can't be done."])
    trial = Trial(Agent(model, tools=[divide], db=journal), mode).start().finish()
    assert trial.output.status is RunStatus.completed and trial.output.content == "It can't be done."
    [execution] = trial.output.tools
    assert execution.tool_call_error and "ZeroDivisionError" in execution.result
    assert "division by zero" in model.requests[1].messages[-1].content


@pytest.mark.parametrize("on_error", ["skip", "fail"])
@pytest.mark.parametrize("error", [ValueError("torn"), SystemExit(3), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_step_that_raises(
    asynchronous: bool, error: BaseException, on_error: str, mode: Mode, journal: Journal
) -> None:
    """A step's error is recorded; the workflow goes on, or ends `ERROR`; never `CANCELLED`, never a hang."""

    def step(given: Any) -> None:
        raise error

    async def step_async(given: Any) -> None:
        raise error

    middle = Step("bad", executor=step_async if asynchronous else step, on_error=on_error, max_retries=0)
    workflow = Workflow("W", steps=[middle, lambda given: "after"], db=journal)
    trial = Trial(workflow, mode).start().finish()
    assert trial.error is None
    cancelled = isinstance(error, asyncio.CancelledError)
    if on_error == "fail" or cancelled:
        assert trial.output.status is RunStatus.error and (str(error) in str(trial.output.content))
    else:
        assert trial.output.status is RunStatus.completed and trial.output.content == "after"
        assert [step["success"] for step in journal.last(trial.run_id)["step_results"]] == [False, True]
    assert journal.last(trial.run_id)["status"] == trial.output.status.value


def test_unknown_parameters(mode: Mode) -> None:
    """A parameter that desist doesn't have is refused by name, everywhere."""
    model = ScriptedModel("hello")
    agent, workflow = Agent(model, name="A"), Workflow("W", steps=[lambda given: 1])
    makers: list[Callable[[], Any]] = [
        lambda: Agent(model, no_such=1),
        lambda: Step("s", agent=agent, no_such=1),
        lambda: Workflow("W", no_such=1),
        lambda: OpenAIChat(no_such=1),
        lambda: call(agent, mode, no_such=1),
        lambda: call(workflow, mode, no_such=1),
    ]
    for make in makers:
        with pytest.raises(UnsupportedError, match="no_such"):
            make()
    assert model.requests == []


def test_steps_that_make_no_sense() -> None:
    """A step with two executors or none, no steps, two of one name, nonsense as a step: each error names it."""
    agent = Agent(ScriptedModel("hello"), name="A")
    for make, words in [
        (lambda: Step("both", agent=agent, executor=print), "'both' has both agent= and executor="),
        (lambda: Step("none"), "'none' has neither"),
        (lambda: Step("s", executor="not callable"), "'not callable'"),
        (lambda: Step("s", agent="not an agent"), "'not an agent'"),
        (lambda: Step("s", agent=agent, max_retries=-1), "max_retries=-1"),
        (lambda: Step("s", agent=agent, on_cancel="ignore"), "not 'ignore'"),
        (lambda: Workflow("W", steps=[Step("x", executor=print), Step("x", agent=agent)]), "two steps named 'x'"),
        (lambda: Workflow("W", steps=[42]), "step 0 of workflow 'w' is 42"),
        (lambda: Workflow("W", steps="talk"), "must be a list"),
        (lambda: Workflow("W", timeout=-1), "timeout=-1"),
        (lambda: Agent("gpt-5-mini"), "'gpt-5-mini'"),
        (lambda: Agent(ScriptedModel("x"), retries=-1), "retries=-1"),
    ]:
        with pytest.raises((ConfigurationError, ValueError)) as caught:
            make()
        assert words in str(caught.value), caught.value


def test_no_steps(mode: Mode, journal: Journal) -> None:
    """A workflow without steps says so when it is run."""
    with pytest.raises(ConfigurationError, match="'w' has no steps"):
        call(Workflow("W", db=journal), mode)
    assert journal.saved == []


def test_a_run_id_that_is_in_use(mode: Mode, journal: Journal) -> None:
    """The id of a live run can't be used again; the live run isn't harmed. Once it has ended, it can."""
    gate = Gate()
    workflow = Workflow("W", steps=[Agent(ScriptedModel([["a ", gate, "b"], "c"]), name="A")], db=journal)
    trial = Trial(workflow, mode).start()
    gate.wait_reached()
    with pytest.raises(RunIdInUseError, match=trial.run_id):
        call(workflow, mode, run_id=trial.run_id)
    gate.open()
    assert trial.finish().output.content == "a b"
    assert call(workflow, mode, run_id=trial.run_id).status is RunStatus.completed


@pytest.mark.parametrize("asked", [42, b"bytes", object(), {1, 2}], ids=lambda value: type(value).__name__)
def test_an_input_of_a_wrong_type(asked: Any, mode: Mode, journal: Journal) -> None:
    """An input that no model can be told is refused, with its type."""
    agent = Agent(ScriptedModel("hello"), name="A", db=journal)
    for runner in (agent, Workflow("W", steps=[agent], db=journal)):
        with pytest.raises(ConfigurationError, match=type(asked).__name__):
            call(runner, mode, asked)
    assert journal.saved == []


@pytest.mark.parametrize("run_id", [None, "", b"id", 1.5])
def test_a_wrong_id_for_a_cancel(run_id: Any) -> None:
    """A cancel of something that isn't an id says so."""
    with pytest.raises(ConfigurationError, match="run_id="):
        cancel_run(run_id)
    for wrong in ({"scope": "all"}, {"grace": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Workflow.cancel("some-id", **wrong)


@pytest.mark.parametrize(
    "prompt",
    ["x" * 10_000_000, "broken \ud800 half \udfff", "nul \x00, right-to-left \u202e, \U0001f409", " ", ""],
    ids=["10 MB", "lone surrogates", "odd characters", "blank", "empty"],
)
def test_odd_prompts(prompt: str, mode: Mode, provider: LoopbackProvider, journal: Journal) -> None:
    """Any text can be asked: it reaches the provider (what isn't Unicode replaced), and is stored."""
    provider.set_default(Reply(text="I see."))
    model = OpenAIChat("m", base_url=provider.base_url, api_key="sk-test-0123456789", max_retries=0)
    workflow = Workflow("W", steps=[Agent(model, name="A")], db=journal)
    trial = Trial(workflow, mode).start(prompt).finish(20)
    assert trial.error is None and trial.output.status is RunStatus.completed
    assert trial.output.content == "I see." and journal.last(trial.run_id)["status"] == "COMPLETED"
    told = provider.exchanges[0].request["messages"][-1]["content"]
    assert told == prompt.encode("utf-8", "replace").decode()


def test_odd_texts_of_a_model(mode: Mode, journal: Journal) -> None:
    """What a model says may be odd too: it is kept, stored and shown."""
    model = ScriptedModel([["half \ud83d", "\x00 ", "done"]])
    trial = Trial(Workflow("W", steps=[Agent(model, name="A")], db=journal), mode).start().finish()
    assert trial.error is None and trial.output.status is RunStatus.completed
    assert json.dumps(journal.last(trial.run_id)) and trial.output.content.endswith("done")


def test_broken_arguments_of_a_tool_call(mode: Mode, journal: Journal) -> None:
    """A call with broken JSON, wrong types or of no such tool is answered with an error; the run goes on."""

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    calls = [Call("add", '{"a": 1, '), Call("add", {"a": "x", "b": []}), Call("subtract", {})]
    model = ScriptedModel([*calls, "enough"])
    trial = Trial(Agent(model, tools=[add], db=journal), mode).start().finish()
    assert trial.output.status is RunStatus.completed and trial.output.content == "enough"
    assert [execution.tool_call_error for execution in trial.output.tools] == [True] * 3
    assert "there is no tool named 'subtract'" in trial.output.tools[2].result


def test_sync_run_on_a_loop_of_ours() -> None:
    """`run()` in an async step would wait for itself: it is refused, with what to do instead."""
    inner = Agent(ScriptedModel("never"), name="Inner")

    async def step(given: Any) -> None:
        inner.run("a question")

    output = Workflow("W", steps=[Step("s", executor=step, on_error="fail", max_retries=0)]).run("go")
    assert output.status in (RunStatus.error, RunStatus.completed)  # completed: where steps have loops of their own
    if output.status is RunStatus.error:
        assert "arun()" in output.content


def test_errors_are_of_one_family() -> None:
    """Every error of ours is a `DesistError`."""
    for kind in (ConfigurationError, UnsupportedError, RunIdInUseError):
        assert issubclass(kind, DesistError)
