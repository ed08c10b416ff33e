"""Guarantee 7, C1: whatever became of a run, the next one of its session tells the model something valid."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_message_rules import check_messages

from desist import Agent, Step, Workflow, tool
from desist.db import BaseDb, InMemoryDb
from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.agent import RunOutput
from desist.run.events.base import RunStatus
from desist.run.execution.run import new_id
from desist.run.outputs.history import FAILED, STOPPED, messages_of_runs, run_messages
from desist.run.records.message import CANCELLED_RESULT, Message, ToolCall
from desist.run.records.tool_results import normalize_history
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

S = RunStatus


class Talk:
    """An agent in one session, whose model plays what each prompt brings along."""

    def __init__(self, db: BaseDb | None, **known: Any) -> None:
        self.turns: list[Any] = []
        self.gate = Gate()
        self.model = ScriptedModel([lambda request: self.turns.pop(0)], repeat=True)
        named = {"name": "A", "instructions": "Be brief.", "add_history_to_context": True} | known
        self.agent = Agent(self.model, db=db, session_id="s", **named)

    def say(self, text: str, *turns: Any, **options: Any) -> RunOutput:
        self.turns = list(turns)
        output: RunOutput = self.agent.run(text, **options)
        return output

    def stop(self, text: str, *turns: Any) -> RunOutput:
        """Say it, and cancel when the gate is reached."""
        thread = threading.Thread(target=lambda: (self.gate.wait_reached(), self.agent.cancel("stopped")))
        thread.start()
        output = self.say(text, *turns, run_id="stopped")
        thread.join(30)
        assert output.status is S.cancelled
        return output

    def told(self) -> list[Message]:
        """Return what the model was told last; it is valid."""
        messages = self.model.requests[-1].messages
        check_messages(messages)
        return messages


def words(messages: list[Message]) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in messages]


def test_a_conversation(db: BaseDb) -> None:
    """What was said stands between the instructions and the new question, and isn't recorded a second time."""
    talk = Talk(db)
    talk.say("I am Ada", "Hello Ada")
    output = talk.say("Who am I?", "Ada")
    assert words(talk.told()) == [
        ("system", "Be brief."),
        ("user", "I am Ada"),
        ("assistant", "Hello Ada"),
        ("user", "Who am I?"),
    ]
    assert [message.role for message in output.messages or []] == ["system", "user", "assistant"]


def test_the_last_runs(db: BaseDb) -> None:
    """Only as many runs are told as asked for; none where none are wanted."""
    talk = Talk(db, num_history_runs=2)
    for number in range(4):
        talk.say(f"q{number}", f"a{number}")
    assert [text for role, text in words(talk.told()) if role == "user"] == ["q1", "q2", "q3"]
    talk.say("alone", "x", add_history_to_context=False)
    assert len(talk.told()) == 2


def test_cancelled_in_its_answer(db: BaseDb) -> None:
    """A stopped answer is told as far as it had come."""
    talk = Talk(db)
    talk.stop("tell", ["half an ", "answer", talk.gate])
    talk.say("go on", "ok")
    assert words(talk.told())[1:] == [("user", "tell"), ("assistant", "half an answer"), ("user", "go on")]


def test_cancelled_before_its_answer(db: BaseDb) -> None:
    """Where nothing had been said yet, a note says so: question and answer take turns."""
    talk = Talk(db)
    talk.stop("tell", [talk.gate, "never"])
    talk.say("again", "ok")
    assert words(talk.told())[1:] == [("user", "tell"), ("assistant", STOPPED), ("user", "again")]


def test_cancelled_in_its_tools(db: BaseDb) -> None:
    """C1: of calls side by side the finished one keeps its result, the stopped one gets a synthetic one."""
    talk = Talk(db)

    async def first() -> str:
        return "A is done"

    async def second() -> str:
        await talk.gate.wait()
        return "never"

    talk.agent.tools = [first, second]
    talk.turns = [ToolCalls(Call("first", id="a"), Call("second", id="b"))]
    for event in talk.agent.run("do both", stream=True, stream_events=True):
        if event.event == "ToolCallCompleted":
            talk.agent.cancel(event.run_id)
    talk.say("and?", "ok")
    told = talk.told()
    assert [message.content for message in told if message.role == "tool"] == ["A is done", CANCELLED_RESULT]
    assert words(told)[-2:] == [("assistant", STOPPED), ("user", "and?")]


def test_cancelled_in_a_call(db: BaseDb) -> None:
    """A call that was still being streamed never appears in the history."""
    talk = Talk(db)
    talk.agent.tools = [lookup]
    talk.stop("look", ["I will ", Call("lookup", {"word": "x"}), talk.gate])
    talk.say("and?", "ok")
    assert words(talk.told())[1:] == [("user", "look"), ("assistant", "I will "), ("user", "and?")]


def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word} means y"


def test_never_begun(db: BaseDb) -> None:
    """A run that was cancelled before it began said nothing, and isn't told."""
    talk = Talk(db)
    early = new_id()
    talk.agent.cancel(early)
    assert talk.say("no", run_id=early).status is S.cancelled
    talk.say("yes", "ok")
    assert words(talk.told())[1:] == [("user", "yes")]


def test_failed(db: BaseDb) -> None:
    """A failed run is told with what was said, or with a note; never with the words of the error."""
    talk = Talk(db)
    assert talk.say("one", ValueError("secret")).status is S.error
    assert talk.say("two", ["it was ", ValueError("secret")]).status is S.error
    talk.say("three", "ok")
    assert words(talk.told())[1:] == [
        ("user", "one"),
        ("assistant", FAILED),
        ("user", "two"),
        ("assistant", "it was "),
        ("user", "three"),
    ]


def test_tools_that_end_the_run(db: BaseDb) -> None:
    """Where a tool's result was the answer, it stands there as the answer, too."""
    talk = Talk(db, tools=[tool(stop_after_tool_call=True)(lookup)])
    talk.say("look", Call("lookup", {"word": "x"}))
    talk.say("and?", "ok")
    assert words(talk.told())[-3:] == [("tool", "x means y"), ("assistant", "x means y"), ("user", "and?")]


def test_ids_of_calls_name_one_call(db: BaseDb) -> None:
    """A provider that uses the same ids in each run doesn't make a history in which an id names two calls."""
    talk = Talk(db, tools=[lookup])
    for word in ("x", "y", "z"):
        talk.say(word, Call("lookup", {"word": word}, id="call_0"), f"told {word}")
    told = talk.told()
    assert [message.content for message in told if message.role == "tool"] == ["x means y", "y means y", "z means y"]


def test_sessions_and_agents_are_apart(db: BaseDb) -> None:
    """Neither another session nor another agent of the same session is told of."""
    one, other = Talk(db), Talk(db, name="B")
    one.say("mine", "a")
    other.say("theirs", "b")
    one.say("elsewhere", "c", session_id="t")
    one.say("and?", "d")
    assert words(one.told())[1:] == [("user", "mine"), ("assistant", "a"), ("user", "and?")]


def test_without_a_session_id(db: BaseDb) -> None:
    """An agent with a database keeps one session of its own; so does one that wants its history told."""
    model = ScriptedModel(["a", "b"])
    Agent(ScriptedModel(["x"]), name="A", db=db).run("other")
    agent = Agent(model, name="A", db=db, add_history_to_context=True)
    first, second = agent.run("one"), agent.run("two")
    assert first.session_id == second.session_id
    assert words(model.requests[-1].messages) == [("user", "one"), ("assistant", "a"), ("user", "two")]
    talker = Agent(ScriptedModel(["a", "b"]), add_history_to_context=True)
    assert talker.run("one").session_id == talker.run("two").session_id
    loner = Agent(ScriptedModel(["a", "b"]))
    ids = {loner.run("one").session_id, loner.run("two").session_id}
    assert len(ids) == 2 and None not in ids


def test_inside_a_workflow(db: BaseDb) -> None:
    """An agent without a database of its own remembers where the workflow does, in the workflow's session."""
    model = ScriptedModel(["a", "b", "c"])
    agent = Agent(model, name="A", add_history_to_context=True)
    workflow = Workflow("W", steps=[Step("talk", agent=agent)], db=db)
    workflow.run("one", session_id="s")
    workflow.run("elsewhere", session_id="t")
    workflow.run("two", session_id="s")
    assert words(model.requests[-1].messages) == [("user", "one"), ("assistant", "a"), ("user", "two")]
    assert [run.content for run in db.get_runs("s", "agent")] == ["a", "c"]
    assert db.get_session("s", "agent").agent_id == agent.id


def test_session_messages(db: BaseDb) -> None:
    """A program can read what was said: all, the last, without some roles or some runs; calls stay with results."""
    talk = Talk(db, tools=[lookup])
    talk.say("one", Call("lookup", {"word": "x"}), "told")
    talk.stop("two", ["half", talk.gate])
    get = talk.agent.get_session_messages
    assert words(get("s", last_n_runs=1)) == [("user", "two"), ("assistant", "half")]
    assert words(get("s", skip_statuses=[S.cancelled]))[-1] == ("assistant", "told")
    assert [message.role for message in get("s", limit=4)] == ["assistant", "user", "assistant"], (
        "a result alone is none"
    )
    assert words(talk.agent.get_chat_history()) == [
        ("user", "one"),
        ("assistant", "told"),
        ("user", "two"),
        ("assistant", "half"),
    ]
    assert [call.tool_name for call in talk.agent.get_session("s").get_tool_calls()] == ["lookup"]


def test_refused() -> None:
    """Parameters without an effect are refused by name, and a negative number is an error."""
    with pytest.raises(UnsupportedError, match="num_history_messages="):
        Agent(num_history_messages=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="num_history_runs=-1"):
        Agent(num_history_runs=-1)
    with pytest.raises(UnsupportedError, match="cache_session="):
        Workflow(cache_session=True)  # type: ignore[call-arg]


# -- any history at all


def call(number: int) -> ToolCall:
    return ToolCall(id=f"c{number}", name="lookup", arguments="{}")


calls = st.lists(st.integers(0, 5).map(call), max_size=3)
messages = st.one_of(
    st.builds(lambda text: Message("user", text), st.sampled_from(["hi", "there"])),
    st.builds(
        lambda text, wished: Message("assistant", text, tool_calls=wished or None),
        st.sampled_from([None, "", "well"]),
        calls,
    ),
    st.builds(lambda number: Message("tool", "result", tool_call_id=f"c{number}"), st.integers(0, 5)),
    st.just(Message("system", "be brief")),
)


def balanced(told: list[Message]) -> None:
    """Each call has exactly one result, next to it and in order; each result has a call."""
    due: list[str] = []
    for message in told:
        if message.role == "tool":
            assert due and due.pop(0) == message.tool_call_id
        else:
            assert not due, "a call without a result"
            due += [wish.id for wish in message.tool_calls or []]
    assert not due, "a call without a result"


@settings(max_examples=200, deadline=None)
@given(st.lists(messages, max_size=12))
def test_any_messages_are_repaired(told: list[Message]) -> None:
    """Whatever stands in a store: afterwards each call has one result, and repairing again changes nothing."""
    once = normalize_history(told)
    balanced(once)
    assert normalize_history(once) == once


RUN: Callable[..., RunOutput] = RunOutput


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(messages, max_size=6), st.sampled_from([S.completed, S.cancelled, S.error]))))
def test_any_runs_make_a_history(runs: list[tuple[list[Message], RunStatus]]) -> None:
    """Each run ends with an answer in words, so that the next question may follow; system messages aren't told."""
    outputs = [RUN(messages=list(told), status=status, content=None) for told, status in runs]
    for output in outputs:
        told = run_messages(output)
        balanced(told)
        assert not told or (told[-1].role == "assistant" and told[-1].content)
        assert not [message for message in told if message.role == "system"]
    assert len(messages_of_runs(outputs)) == sum(len(run_messages(output)) for output in outputs)


def test_a_long_conversation() -> None:
    """A hundred runs with tools, some of them stopped: every request is valid."""
    talk = Talk(InMemoryDb(), tools=[lookup], num_history_runs=100)
    for number in range(60):
        if number % 5 == 3:
            talk.gate = Gate()
            talk.stop(f"q{number}", Call("lookup", {"word": "x"}), ["half", talk.gate])
        else:
            talk.say(f"q{number}", Call("lookup", {"word": "x"}), f"a{number}")
        talk.told()
