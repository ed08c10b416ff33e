"""A run of an agent that waits for a human: paused, answered, continued; with each kind of database and without."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from paused_agents import Payments, paying_agent

from desist import Agent, RunStatus, tool
from desist.exceptions import AnswerRefusedError, ConfigurationError, RunStateError
from desist.run.answer import aanswer, answer, pending
from desist.run.cancel import cancel
from desist.run.requirement import AnswerOutcome, RunRequirement
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


def test_a_confirmed_call_is_made_once(store: Any) -> None:
    """The calls that need nobody run, the guarded one waits; confirmed, it is made once, in the same run."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    assert out.status is RunStatus.paused and out.is_paused
    assert payments.made == [] and [m.role for m in out.messages or []] == ["user", "assistant", "tool"]
    [requirement] = out.active_requirements
    assert requirement.needs_confirmation and requirement.pause_type == "confirmation"
    assert [tool.tool_name for tool in out.tools_requiring_confirmation] == ["pay"]
    requirement.confirm(by="ann")
    done = agent.continue_run(out)
    assert (done.status, done.run_id, done.content) == (RunStatus.completed, out.run_id, "done")
    assert payments.made == [5]
    assert [m.content for m in done.messages or [] if m.role == "tool"] == ["saw it", "paid 5"]
    [record] = done.requirements or []
    assert (record.state, record.by, record.confirmation) == ("answered", "ann", True)
    assert record.answered_at is not None and done.active_requirements == []
    found = agent.get_run_output(out.run_id or "")
    assert found is not None and found.status is RunStatus.completed


def test_a_second_continuation_loses(store: Any) -> None:
    """F1: after one continuation another one gets `already_answered`, with who was first."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    out.requirements[0].confirm(by="ann")
    copy = type(out).from_dict(out.to_dict())
    agent.continue_run(out)
    with pytest.raises(AnswerRefusedError) as caught:
        agent.continue_run(copy)
    assert caught.value.receipt.outcome is AnswerOutcome.already_answered
    assert caught.value.receipt.by == "ann" and payments.made == [5]
    with pytest.raises(ValueError, match="ann"):
        agent.continue_run(run_id=out.run_id, session_id=out.session_id)


def test_two_continuations_at_once(store: Any) -> None:
    """F1: of two threads that continue one run at the same moment, one makes the call; the other learns who did."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    inside, release = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert release.wait(10)

    payments.before = wait
    out = agent.run("go")
    results: list[Any] = []
    start = threading.Barrier(2)

    def go_on(by: str) -> None:
        mine = type(out).from_dict(out.to_dict())
        mine.requirements[0].confirm(by=by)
        start.wait()
        try:
            results.append(agent.continue_run(mine))
        except AnswerRefusedError as error:
            results.append(error)
            release.set()

    threads = [threading.Thread(target=go_on, args=(by,)) for by in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert payments.made == [5]
    [lost] = [one for one in results if isinstance(one, AnswerRefusedError)]
    [won] = [one for one in results if not isinstance(one, AnswerRefusedError)]
    assert won.status is RunStatus.completed
    assert lost.receipt.outcome is AnswerOutcome.already_answered
    assert lost.receipt.by == won.requirements[0].by


def test_cancel_of_a_paused_run(store: Any) -> None:
    """F2: a paused run is cancelled at once by its id; what it waited for is closed, and later answers are refused."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    requirement_id = out.requirements[0].id
    receipt = agent.cancel(out.run_id, reason="no more", by="bob")
    assert receipt and receipt.wait(10)
    assert receipt.status is RunStatus.cancelled
    found = agent.get_run_output(out.run_id)
    assert found.status is RunStatus.cancelled and found.cancel.reason == "no more"
    assert found.cancellation_stage == "PAUSED"
    assert found.requirements[0].state == "closed" and found.content is None
    results = [m.content for m in found.messages if m.role == "tool"]
    assert results[0] == "saw it" and "not called" in results[1]
    late = answer(out.run_id, requirement_id, "confirm", db=store)
    assert late.outcome is AnswerOutcome.run_ended and not late
    assert not pending(out.run_id, db=store)[0].is_open
    with pytest.raises(RunStateError):
        agent.continue_run(run_id=out.run_id, requirements=[RunRequirement(id=requirement_id)])
    again = agent.cancel(out.run_id)
    assert again and again.outcome.value == "already_cancelled"
    assert payments.made == []


def test_cancel_without_naming_the_database(store: Any) -> None:
    """A process finds a run that it has paused by its id alone."""
    agent = paying_agent(Payments(), db=store)
    out = agent.run("go")
    receipt = cancel(out.run_id or "")
    assert receipt and receipt.wait(10)
    assert agent.get_run_output(out.run_id).status is RunStatus.cancelled


def test_answer_then_continue(store: Any) -> None:
    """An answer is stored by `answer`, once; whoever continues the run needs only its id."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    requirement_id = out.requirements[0].id
    [asked] = pending(out.run_id, db=store)
    assert asked.asked["tool_args"] == {"amount": 5} and asked.is_open
    with pytest.raises(ValueError, match="waits for 1 more answers: pay"):
        agent.continue_run(run_id=out.run_id)
    first = answer(out.run_id, requirement_id, "confirm", by="ann", digest=asked.digest, db=store)
    assert first and first.open == 0
    second = answer(out.run_id, requirement_id, "reject", by="bob", db=store)
    assert (second.outcome, second.by) == (AnswerOutcome.already_answered, "ann")
    assert agent.get_run_output(out.run_id).requirements[0].by == "ann"
    assert agent.continue_run(run_id=out.run_id, session_id=out.session_id).content == "done"
    assert payments.made == [5]


def test_rejected(store: Any) -> None:
    """A rejected call is not made; the model gets the note, as an error."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    out.requirements[0].reject("too much", by="ann")
    done = agent.continue_run(out)
    assert done.content == "done" and payments.made == []
    last = [m for m in done.messages if m.role == "tool"][-1]
    assert last.content == "too much" and last.tool_call_error


def test_edited_arguments(store: Any) -> None:
    """F5: edited arguments are validated before they are stored, and marked; an answer for others is stale."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    requirement = out.requirements[0]
    with pytest.raises(ConfigurationError, match="amount must be of type integer"):
        answer(out.run_id, requirement.id, "edit", arguments={"amount": "much"}, db=store)
    with pytest.raises(ConfigurationError, match="sum is not asked for"):
        answer(out.run_id, requirement.id, "edit", arguments={"amount": 1, "sum": 2}, db=store)
    stale = answer(out.run_id, requirement.id, "confirm", digest="0" * 64, db=store)
    assert stale.outcome is AnswerOutcome.stale
    requirement.tool_execution.tool_args["amount"] = "a lot"  # as programs of the followed API edit
    requirement.confirm()
    with pytest.raises(ConfigurationError, match="amount"):
        agent.continue_run(out)
    requirement.tool_execution.tool_args["amount"] = 3
    done = agent.continue_run(out)
    assert payments.made == [3]
    assert done.requirements[0].edited
    assert done.tools[-1].tool_args == {"amount": 3}


def test_events_of_a_pause(store: Any) -> None:
    """The stream of a run that pauses ends with `RunPaused`; that of its continuation begins with `RunContinued`."""
    agent = paying_agent(Payments(), db=store)
    events = list(agent.run("go", stream=True, stream_events=True))
    assert [e.event for e in events][-1] == "RunPaused" and events[-1].is_paused
    assert not any(e.is_terminal for e in events)
    assert [tool.tool_name for tool in events[-1].tools] == ["pay"]
    few = list(paying_agent(Payments(), db=store).run("go", stream=True))
    assert [e.event for e in few] == ["RunPaused"]
    agent.cancel(few[0].run_id)
    events[-1].requirements[0].confirm()
    more = list(
        agent.continue_run(
            run_id=events[-1].run_id, requirements=events[-1].requirements, stream=True, stream_events=True
        )
    )
    assert more[0].event == "RunContinued"
    assert [e.event for e in more if e.is_terminal] == ["RunCompleted"]


def test_closing_the_reader_of_a_paused_run(store: Any) -> None:
    """A reader that is closed after the pause doesn't cancel the run: it waits for a human, not for the reader."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    with agent.run("go", stream=True) as reader:
        event = next(reader)
    assert event.event == "RunPaused"
    event.requirements[0].confirm()
    assert agent.continue_run(run_id=event.run_id, requirements=event.requirements).content == "done"
    assert payments.made == [5]


@pytest.mark.anyio
async def test_async(store: Any) -> None:
    """The same on an event loop: `arun`, `aanswer`, `acontinue_run`, streamed and not."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = await agent.arun("go")
    assert out.is_paused
    assert await aanswer(out.run_id, out.requirements[0].id, "confirm", by="ann", db=store)
    done = await agent.acontinue_run(run_id=out.run_id)
    assert done.content == "done" and payments.made == [5]
    events = [e async for e in agent.arun("go", stream=True)]
    assert [e.event for e in events] == ["RunPaused"]
    events[0].requirements[0].confirm()
    found = agent.acontinue_run(run_id=events[0].run_id, requirements=events[0].requirements, stream=True)
    assert [e.event async for e in found][-1] == "RunCompleted"
    assert payments.made == [5, 5]
    third = await agent.arun("go")
    receipt = await agent.acancel(third.run_id)
    assert receipt and await receipt is not None
    assert (await agent.aget_run_output(third.run_id)).status is RunStatus.cancelled


def test_several_requirements_of_one_turn(store: Any) -> None:
    """All that a turn waits for is answered before the run goes on; results keep the order of the calls."""
    payments = Payments()
    script = [ToolCalls(Call("pay", {"amount": 1}), Call("look", {"what": "it"}), Call("pay", {"amount": 2})), "done"]
    agent = paying_agent(payments, script, db=store)
    out = agent.run("go")
    first, second = out.requirements
    first.confirm()
    with pytest.raises(ValueError, match="waits for 1 more"):
        agent.continue_run(out)
    second.reject()
    done = agent.continue_run(out)
    assert payments.made == [1]
    results = [m.content for m in done.messages if m.role == "tool"]
    assert results[:2] == ["paid 1", "saw it"] and "rejected" in results[2]


def test_pausing_again(store: Any) -> None:
    """A continued run may pause again; requirements accumulate in order, and the events of the run are numbered on."""
    payments = Payments()
    script = [Call("pay", {"amount": 1}), Call("pay", {"amount": 2}), "done"]
    agent = paying_agent(payments, script, db=store)
    out = agent.run("go")
    out.requirements[0].confirm()
    again = agent.continue_run(out)
    assert again.is_paused and len(again.requirements) == 2 and len(again.active_requirements) == 1
    again.active_requirements[0].confirm()
    assert agent.continue_run(again).content == "done"
    assert payments.made == [1, 2]


def test_user_input(store: Any) -> None:
    """Fields for a human are hidden from the model, checked by their type, and passed to the tool."""
    sent: list[tuple[str, str]] = []

    @tool(requires_user_input=True, user_input_fields=["to"])
    def send(text: str, to: str) -> str:
        """Send a text."""
        sent.append((text, to))
        return "sent"

    agent = Agent(ScriptedModel([Call("send", {"text": "hello"}), "done"]), tools=[send], db=store)
    shown = agent.functions()["send"].definition()["function"]["parameters"]
    assert list(shown["properties"]) == ["text"]
    out = agent.run("go")
    [requirement] = out.active_requirements
    assert requirement.needs_user_input
    fields = {one.name: one.value for one in requirement.user_input_schema or ()}
    assert fields == {"text": "hello", "to": None}
    with pytest.raises(ConfigurationError, match="to must be of type string"):
        answer(out.run_id, requirement.id, "input", values={"to": 3}, db=store)
    requirement.provide_user_input({"to": "ann"})
    assert agent.continue_run(out).content == "done"
    assert sent == [("hello", "ann")]


def test_external_execution(store: Any) -> None:
    """A tool that the program executes is never called; its result is what the program says."""

    @tool(external_execution=True, external_execution_silent=True)
    def shell(command: str) -> str:
        """Run a command."""
        raise AssertionError("never called")

    agent = Agent(ScriptedModel([Call("shell", {"command": "ls"}), "done"]), tools=[shell], db=store)
    out = agent.run("go")
    assert out.content is None
    [requirement] = out.active_requirements
    assert requirement.needs_external_execution and out.tools_awaiting_external_execution
    requirement.set_external_execution_result("a file")
    done = agent.continue_run(out)
    assert done.messages[-2].content == "a file" and done.content == "done"


def test_cancel_while_the_guarded_call_runs(store: Any) -> None:
    """A continued run is a run like any other: a cancel stops the guarded call, and nothing repeats it."""
    gate = Gate()
    agent = paying_agent(Payments(), [Call("pay", {"amount": 5}), [gate, "done"]], db=store)
    out = agent.run("go")
    out.requirements[0].confirm()
    with agent.continue_run(out, stream=True, stream_events=True) as reader:
        for event in reader:
            if event.event == "ModelRequestStarted":
                assert agent.cancel(out.run_id)
    found = agent.get_run_output(out.run_id)
    assert found.status is RunStatus.cancelled
    assert found.tools[0].result == "paid 5"


@pytest.mark.loud
def test_an_agent_in_a_tool_cannot_pause() -> None:
    """A run that was started in a tool of another run is refused its pause by name, and its caller gets the error."""
    inner = paying_agent(Payments(), name="inner")
    seen: list[Any] = []

    def delegate() -> str:
        """Ask another agent."""
        found = inner.run("go")
        seen.append(found)
        return found.status.value

    outer = Agent(ScriptedModel([Call("delegate"), "done"]), tools=[delegate])
    assert outer.run("go").status is RunStatus.completed
    assert seen[0].status is RunStatus.error and "can't pause" in seen[0].error


def test_a_run_that_failed_after_its_pause(store: Any) -> None:
    """A run that was paused once and has failed since is continued as any other: as a new run."""
    payments = Payments()
    script = [Call("pay", {"amount": 1}), ValueError("the model is down"), "done"]
    agent = paying_agent(payments, script, db=store)
    out = agent.run("go")
    out.requirements[0].confirm()
    failed = agent.continue_run(out)
    assert failed.status is RunStatus.error and payments.made == [1]
    again = agent.continue_run(run_id=out.run_id)
    assert (again.status, again.continued_from, again.content) == (RunStatus.completed, out.run_id, "done")
    assert payments.made == [1]


@pytest.mark.parametrize("how", ["tools of the output", "updated_tools"])
def test_an_answer_in_the_tool_calls(store: Any, how: str) -> None:
    """The older spelling of the followed API: the answer is set in the tool calls."""
    payments = Payments()
    agent = paying_agent(payments, db=store)
    out = agent.run("go")
    copy = type(out).from_dict(out.to_dict())
    for one in copy.tools_requiring_confirmation:
        one.confirmed = True
    if how == "updated_tools":
        done = agent.continue_run(run_id=out.run_id, updated_tools=copy.tools)
    else:
        done = agent.continue_run(copy)
    assert done.content == "done" and payments.made == [5]
