"""Guarantee 8. Cancel by any id: B6, A17: of the tree, of a subtree, of runs started inside tools and steps."""

from __future__ import annotations

import contextvars
import queue
import threading
from typing import Any

import pytest
from cancel_trial import (
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_record,
    check_stopped,
    check_three,
    stop_at,
    three_steps,
)

from desist import Agent, RunCancelled, Step, Workflow
from desist.cancel import Outcome, RunStatus, Source
from desist.testing import Call, Gate, ScriptedModel


def _slow_agent(gate: Gate, journal: Journal, name: str = "Inner") -> Agent:
    return Agent(ScriptedModel([["inner ", "text ", gate, "never said"]]), name=name, db=journal)


def test_a_subtree_that_the_step_may_skip(mode: Mode, journal: Journal) -> None:
    """B6: `scope="run"` on an agent whose step says on_cancel="skip" stops that agent; the workflow goes on."""
    gate, ran = Gate(), []
    agent = _slow_agent(gate, journal)
    after = Step("after", executor=lambda given: ran.append(1) or "after")
    steps = [Step("talk", agent=agent, on_cancel="skip"), after]
    trial = Trial(Workflow("W", steps=steps, db=journal), mode).start()
    gate.wait_reached()
    child = trial.child_id()
    receipt = trial.cancel("agent", scope="run")
    assert receipt and receipt.outcome is Outcome.accepted and receipt.run_id == child
    assert receipt.wait(PATIENCE) and receipt.status is RunStatus.cancelled
    trial.finish()
    assert trial.error is None and trial.output.status is RunStatus.completed and trial.output.cancel is None
    first, second = journal.last(trial.run_id)["step_results"]
    assert (first["success"], first["cancelled"], first["content"]) == (False, True, "inner text ")
    assert (second["success"], second["content"]) == (True, "after") and ran == [1]
    assert journal.last(child)["status"] == "CANCELLED" and journal.last(child)["cancel"]["source"] == "user"
    if mode.stream:
        ends = [(event.event, event.run_id == child) for event in trial.events if event.is_terminal]
        assert ends == [("RunCancelled", True), ("WorkflowCompleted", False)]
    late = trial.runner.cancel(child)
    assert late and (late.outcome, late.run_id) == (Outcome.already_cancelled, child)


def test_a_subtree_that_the_step_needs(mode: Mode, journal: Journal) -> None:
    """B6: without on_cancel="skip" the workflow is cancelled with its agent: it never completes as if nothing was."""
    gate, never = Gate(), []
    trial = Trial(three_steps(Step("talk", agent=_slow_agent(gate, journal)), journal, never), mode).start()
    gate.wait_reached()
    child = trial.child_id()
    receipt = trial.cancel("agent", scope="run")
    assert receipt and receipt.run_id == child and receipt.wait(PATIENCE)
    trial.finish()
    assert trial.output.status is RunStatus.cancelled
    check_record(trial.output.cancel, reason="enough", by="me", source=Source.child)
    check_three(trial, never, "inner text ".startswith)
    assert journal.last(child)["cancel"]["source"] == "user"


def _nested(kind: str, gate: Gate, journal: Journal, seen: list[Any]) -> Step:
    """Return a step that runs an agent or workflow inside a tool or function."""
    inner: Any = _slow_agent(gate, journal)
    if "workflow" in kind:
        inner = Workflow("Inner", steps=[inner, lambda given: seen.append("a step of the inner workflow")], db=journal)

    async def call(*given: Any) -> str:
        """Ask."""
        output = await inner.arun("a question")
        seen.append("went on")
        return output.content

    def call_sync(*given: Any) -> str:
        """Ask."""
        output = inner.run("a question")
        seen.append("went on")
        return output.content

    async def ask() -> str:
        """Ask."""
        return await call()

    def ask_sync() -> str:
        """Ask."""
        return call_sync()

    if "tool" not in kind:
        return Step("nested", executor=call if "async" in kind else call_sync)
    tool = ask if "async" in kind else ask_sync
    outer = ScriptedModel([Call(tool.__name__), "outer goes on"])
    return Step("nested", agent=Agent(outer, name="Outer", tools=[tool], db=journal))


KINDS = [f"{way} {what} in a {where}" for way in ("sync", "async") for what in ("agent", "workflow")
         for where in ("tool", "step")]  # fmt: skip


@pytest.mark.parametrize("by_id", ["root", "innermost"])
@pytest.mark.parametrize("kind", KINDS)
def test_runs_inside_tools_and_steps(kind: str, by_id: str, mode: Mode, journal: Journal) -> None:
    """A17, B6: a run started in a tool or step is a child: any id of the tree stops all of it, and nothing goes on."""
    gate, seen, never = Gate(), [], []
    trial = Trial(three_steps(_nested(kind, gate, journal, seen), journal, never), mode).start()
    gate.wait_reached()
    live = _open_ids(journal)
    assert live[0] == trial.run_id and len(live) == 2 + ("tool" in kind) + ("workflow" in kind)
    run_id = trial.run_id if by_id == "root" else live[-1]
    receipt = trial.runner.cancel(run_id, reason="enough", by="me")
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    check_three(trial, never, lambda text: True)
    assert seen == []
    for child in live[1:]:
        stored = journal.last(child)
        assert stored["status"] == "CANCELLED" and stored["cancel"]["source"] == "parent", stored
        assert stored["cancel"]["reason"] == "enough" and stored["parent_run_id"] in live
    assert journal.last(live[-1])["content"] == "inner text "


def _open_ids(journal: Journal) -> list[str]:
    """Return the ids of the runs that were stored, in the order of their start."""
    return list(dict.fromkeys(run_id for run_id, _, _ in journal.saved))


def test_a_nested_run_alone(mode: Mode, journal: Journal) -> None:
    """B6: `scope="run"` on a run inside a tool, asked for by a user, never lets its parents complete."""
    gate, seen, never = Gate(), [], []
    trial = Trial(three_steps(_nested("async agent in a tool", gate, journal, seen), journal, never), mode).start()
    gate.wait_reached()
    live = _open_ids(journal)
    receipt = trial.runner.cancel(live[-1], scope="run", reason="only this")
    assert receipt and receipt.run_id == live[-1] and receipt.wait(PATIENCE)
    trial.finish()
    assert trial.output.status is RunStatus.cancelled and never == [] and "went on" not in seen
    assert trial.output.cancel.source is Source.child
    assert {journal.last(run_id)["status"] for run_id in live} == {"CANCELLED"}


@pytest.mark.parametrize("what", ["agent", "workflow"])
def test_a_stray_thread_starts_nothing_after_the_cancel(what: str, mode: Mode, journal: Journal) -> None:
    """A17: code that works for a tool in a thread of its own can't start a run once the tree is cancelled.

    The thread is older than the tool, so that the cancel doesn't stop it.
    """
    model, gate, go, outputs, never = ScriptedModel("hello"), Gate(), threading.Event(), [], []
    inner: Any = Agent(model, name="Inner", db=journal)
    if what == "workflow":
        inner = Workflow("Inner", steps=[inner], db=journal)
    contexts: queue.SimpleQueue[contextvars.Context] = queue.SimpleQueue()

    def stray() -> None:
        assert go.wait(PATIENCE)
        try:
            outputs.append(inner.run("a question"))
        except RunCancelled as cancelled:
            outputs.append(cancelled.reason.text)

    async def step(given: Any) -> None:
        contexts.put(contextvars.copy_context())
        await gate.wait()

    worker = threading.Thread(target=lambda: contexts.get(timeout=PATIENCE).run(stray))
    worker.start()

    trial = Trial(three_steps(Step("leave", executor=step), journal, never), mode).start()
    gate.wait_reached()
    receipt = trial.cancel()
    go.set()
    worker.join(PATIENCE)
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    assert model.requests == [] and never == []
    assert outputs == ["enough"]
    [stray_id] = {run_id for run_id, _, _ in journal.saved} - {trial.run_id}
    assert journal.last(stray_id)["cancel"]["source"] == "parent"


def test_a_child_that_outlives_its_parent_is_stopped(mode: Mode, journal: Journal) -> None:
    """A17: a run that a step started and didn't wait for ends with the step's run: cancelled, with source parent."""
    gate = Gate()
    inner = _slow_agent(gate, journal)
    readers: list[Any] = []

    async def step(given: Any) -> str:
        readers.append(inner.arun("a question", stream=True))
        await _reached(gate)
        return "I am done"

    trial = Trial(Workflow("W", steps=[Step("leave", executor=step)], db=journal), mode).start().finish()
    assert trial.error is None and trial.output.status is RunStatus.completed
    stored = journal.wait_final(readers[0].run_id)
    assert stored["status"] == "CANCELLED" and stored["cancel"]["source"] == "parent"
    saved = [run_id for run_id, status, _ in journal.saved if status.is_final]
    assert saved == [readers[0].run_id, trial.run_id]


async def _reached(gate: Gate) -> None:
    import asyncio

    while not gate.reached:
        await asyncio.sleep(0)


def test_two_trees_side_by_side(mode: Mode, journal: Journal) -> None:
    """Cancelling one run leaves another of the same workflow alone."""
    gate, other_gate = Gate(), Gate()
    model = ScriptedModel([["a ", gate], ["b ", other_gate, "c"]])
    workflow = Workflow("W", steps=[Agent(model, name="A")], db=journal)
    first = Trial(workflow, mode).start()
    gate.wait_reached()
    second = Trial(workflow, mode).start()
    other_gate.wait_reached()
    check_stopped(first, stop_at(first, lambda: None))
    other_gate.open()
    second.finish()
    assert second.output.status is RunStatus.completed and second.output.content == "b c"
