"""B1, B3 to B5, B7, B8, B10 to B12: what is said about a cancel is what happened."""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import threading
import uuid
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from cancel_trial import (
    MODES,
    PATIENCE,
    Journal,
    Mode,
    Trial,
    check_record,
    check_stopped,
    stop_at,
    three_steps,
)

from desist import Agent, Step, Steps, Workflow, cancel_run
from desist.cancel import CancelReason, CancelReceipt, Outcome, RunStatus, Source
from desist.cancel.registry import RunRegistry, registry
from desist.exceptions import ModelError
from desist.run.cancel import cancel
from desist.run.cancellation_management import acancel_run
from desist.run.events.base import CancellationStage
from desist.run.events.codec import to_json
from desist.testing import Call, Gate, ScriptedModel

RACES = 2_500  # in each of the four modes


class Race:
    """Runs that end by themselves at the instant at which another thread cancels them."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.workflow = Workflow("Race", steps=[self._step], db=Journal())
        self.receipts: dict[str, CancelReceipt] = {}
        self.outcomes: dict[str, tuple[list[Any], RunStatus]] = {}
        self._begun: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._canceller = threading.Thread(target=self._cancel_all)

    async def _step(self, given: Any, run_context: Any) -> str:
        self._begun.put(run_context.run_id)
        chance = hash(run_context.run_id)
        for _ in range(chance % 4):
            await asyncio.sleep(0)
        _spin(chance % 600)
        return "done"

    def _cancel_all(self) -> None:
        for number in itertools.count():
            run_id = self._begun.get()
            if run_id is None:
                return
            _spin(number * 7919 % 600)
            self.receipts[run_id] = self.workflow.cancel(run_id, reason="race")

    def run(self, count: int) -> None:
        self._canceller.start()
        ids = [uuid.uuid4().hex for _ in range(count)]
        if self.mode.asynchronous:
            asyncio.run(self._run_async(ids))
        else:
            for run_id in ids:
                self._keep(run_id, self.workflow.run("go", run_id=run_id, stream=self.mode.stream))
        self._begun.put(None)
        self._canceller.join()

    async def _run_async(self, ids: list[str]) -> None:
        for run_id in ids:
            running = self.workflow.arun("go", run_id=run_id, stream=self.mode.stream)
            self._keep(run_id, [event async for event in running] if self.mode.stream else await running)

    def _keep(self, run_id: str, made: Any) -> None:
        if self.mode.stream:
            events = list(made)
            ends = [event for event in events if event.is_terminal]
            self.outcomes[run_id] = (ends, ends[-1].status)
            assert events[-1] is ends[-1]
        else:
            self.outcomes[run_id] = ([made], made.status)


def _spin(turns: int) -> None:
    for _ in range(turns):
        pass


@pytest.mark.timeout(120)
def test_races(mode: Mode) -> None:
    """B1: of 10,000 runs that are cancelled as they complete, each has one end, one stored end, and both keep
    the receipt's word."""
    race = Race(mode)
    race.run(RACES)
    journal = race.workflow.db
    stored: dict[str, list[RunStatus]] = {}
    for run_id, status, _ in journal.saved:
        if status.is_final:
            stored.setdefault(run_id, []).append(status)
    seen: Counter[str] = Counter()
    for run_id, receipt in race.receipts.items():
        ends, status = race.outcomes[run_id]
        assert len(ends) == 1 and stored[run_id] == [status]
        assert bool(receipt) == (status is RunStatus.cancelled), receipt
        assert receipt.status is status and receipt.wait(5)
        seen[receipt.outcome.value] += 1
    assert sum(seen.values()) == RACES and set(seen) == {"accepted", "finished"}, seen


def test_fifty_cancels_at_once(mode: Mode, journal: Journal) -> None:
    """B3: fifty threads cancel with fifty reasons: one record, the first; one event; fifty equal receipts."""
    gate, never, receipts = Gate(), [], []
    agent = Agent(ScriptedModel([["partial ", gate]]), name="A")
    trial = Trial(three_steps(Step("talk", agent=agent), journal, never), mode).start()
    gate.wait_reached()
    barrier = threading.Barrier(50)

    def ask(number: int) -> None:
        barrier.wait()
        receipts.append(trial.runner.cancel(trial.run_id, reason=f"reason {number}", by=f"user {number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [first] = [receipt for receipt in receipts if receipt.outcome is Outcome.accepted]
    assert first.wait(PATIENCE)
    trial.finish()
    assert all(receipts) and len(set(receipts)) == 1
    number = first.reason.split()[1]
    check_stopped(trial, first, reason=f"reason {number}", by=f"user {number}")


@pytest.mark.parametrize("failing", [False, True], ids=["completed", "error"])
def test_a_cancel_that_comes_too_late(failing: bool, mode: Mode, journal: Journal) -> None:
    """B4: of a run that has ended otherwise the receipt says so, and nothing changes."""
    turn = ModelError("no") if failing else "the end"
    trial = Trial(Agent(ScriptedModel([turn]), db=journal), mode).start().finish()
    status = RunStatus.error if failing else RunStatus.completed
    assert trial.output.status is status
    before = list(journal.saved)
    receipt = trial.cancel()
    assert not receipt and (receipt.outcome, receipt.status) == (Outcome.finished, status)
    assert receipt.wait(5) and receipt.source is None and receipt.settled_at is None and receipt.abandoned == []
    assert journal.saved == before and trial.output.status is status and trial.output.cancel is None
    assert not cancel_run(trial.run_id) and not asyncio.run(acancel_run(trial.run_id))


def test_a_cancel_before_the_start(mode: Mode, journal: Journal) -> None:
    """B5: a run whose id was cancelled before starts cancelled: no step, no request; a later one isn't harmed."""
    model, steps = ScriptedModel(["said"], repeat=True), []
    work = [lambda given: steps.append(1), Agent(model, name="A")]
    workflow = Workflow("W", steps=work, db=journal)
    trial = Trial(workflow, mode)
    receipt = workflow.cancel(trial.run_id, reason="too early", by="me")
    assert not receipt and (receipt.outcome, receipt.status) == (Outcome.unknown, None)
    assert not receipt.wait(5)
    trial.start().finish()
    assert trial.error is None and trial.output.status is RunStatus.cancelled
    check_record(trial.output.cancel, reason="too early", by="me")
    assert trial.output.cancellation_stage is CancellationStage.pending
    assert steps == [] and model.requests == [] and trial.output.step_results == []
    assert journal.last(trial.run_id) == json.loads(to_json(trial.output))
    if mode.stream:
        assert [event.event for event in trial.events] == ["WorkflowCancelled"]
        assert trial.stored_when_shown == journal.last(trial.run_id)
    again = Trial(workflow, mode)
    again.run_id = trial.run_id
    assert again.start().finish().output.status is RunStatus.completed and len(model.requests) == 1


def test_unknown_ids_are_bounded() -> None:
    """B5: a hundred thousand unknown ids don't fill the memory, and answer quickly."""
    for number in range(100_000):
        receipt = cancel(f"nobody-{number}")
        assert receipt.outcome is Outcome.unknown
    assert registry.pending_cancels <= 10_000
    workflow = Workflow("W", steps=[lambda given: "fine"])
    assert workflow.run("go", run_id="nobody-3").status is RunStatus.completed


def test_an_intent_expires() -> None:
    """B5: a cancel of an unknown id doesn't harm a run that starts after its time to live."""
    now = [0.0]
    records = RunRegistry(intent_ttl=60, clock=lambda: now[0])
    reason = CancelReason(source=Source.user)
    records.cancel("early", reason)
    records.cancel("late", reason)
    now[0] = 59.9
    assert records.add(SimpleNamespace(run_id="early")) is reason  # type: ignore[arg-type]
    now[0] = 60.1
    assert records.add(SimpleNamespace(run_id="late")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("stream_events", [False, True], ids=["", "all-events"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.stream], ids=str)
def test_a_consumer_that_returns_at_the_first_cancelled_event(
    mode: Mode, stream_events: bool, journal: Journal
) -> None:
    """B7: who leaves at the first "cancelled" finds the run stored and complete, and no flag is left behind."""
    model = ScriptedModel([["some ", "text ", Gate()], "second run"])
    workflow = Workflow("W", steps=[lambda given: "one", Agent(model, name="A", db=journal)], db=journal)
    options = {"stream": True, "stream_events": stream_events, "run_id": uuid.uuid4().hex}

    def look(event: Any) -> Any:
        """Cancel from the consumer's own loop; return what is stored once "cancelled" is seen."""
        if event.event == "RunContent" and event.content == "text ":
            assert workflow.cancel_run(event.run_id)
        return workflow.get_run(options["run_id"]) if event.is_cancelled else None

    def read() -> Any:
        for event in workflow.run("go", **options):
            if (stored := look(event)) is not None:
                return stored
        raise AssertionError("no cancelled event")

    async def aread() -> Any:
        async for event in workflow.arun("go", **options):
            if (stored := look(event)) is not None:
                return stored
        raise AssertionError("no cancelled event")

    stored = asyncio.run(aread()) if mode.asynchronous else read()
    assert stored.status is RunStatus.cancelled and stored.content == "some text "
    assert stored.cancel.source is Source.user and stored.cancel.settled_at
    assert [step["success"] for step in stored.step_results] == [True, False]
    assert workflow.run("again", run_id=options["run_id"]).status is RunStatus.completed


def test_finished_work_stays_finished(mode: Mode, journal: Journal) -> None:
    """B8: steps 1 and 2 stay successes, also inside a container; 3 is cancelled with its text; 4 isn't there."""
    gate, never = Gate(), []
    speaker = Agent(ScriptedModel([["half a ", "sentence", gate]]), name="Speaker", db=journal)
    group = Steps("group", steps=[Step("2a", executor=lambda g: "two a"), Step("2b", agent=speaker), never.append])
    workflow = Workflow(
        "W", steps=[Step("1", executor=lambda given: {"one": 1}), group, Step("4", executor=never.append)], db=journal
    )
    trial = Trial(workflow, mode).start()
    receipt = stop_at(trial, lambda: (gate.wait_reached(), trial.wait_text(2)))
    check_stopped(trial, receipt)
    stored = journal.last(trial.run_id)
    one, two = stored["step_results"]
    assert (one["step_name"], one["content"], one["success"]) == ("1", {"one": 1}, True)
    assert (two["step_name"], two["success"], two["cancelled"]) == ("group", False, True)
    inner = [(step["step_name"], step["content"], step["success"]) for step in two["steps"]]
    assert inner == [("2a", "two a", True), ("2b", "half a sentence", False)]
    assert stored["content"] == "half a sentence" and never == []
    assert stored["cancellation_stage"] == "EXECUTING"


SHOWN = [(mode, events) for mode in MODES for events in ((False, True) if mode.stream else (False,))]


@pytest.mark.parametrize("cancelled", [False, True], ids=["to the end", "cancelled"])
def test_showing_does_not_change_doing(cancelled: bool) -> None:
    """B12: however a run is called and shown, it does the same work, and a cancel stops the same work."""
    stories = [_work_done(mode, stream_events, cancelled) for mode, stream_events in SHOWN]
    assert all(story == stories[0] for story in stories), stories
    assert stories[0][-1] == ("CANCELLED" if cancelled else "COMPLETED")
    assert len(stories[0]) == (7 if cancelled else 9)


def _work_done(mode: Mode, stream_events: bool, cancelled: bool) -> list[str]:
    """Run a workflow; return what it did, in order."""
    done: list[str] = []
    gate = Gate()

    async def look_up(word: str) -> str:
        """Look up."""
        done.append(f"tool {word}")
        return "found"

    def turn(name: str, made: Any) -> Any:
        def asked(request: Any) -> Any:
            done.append(f"request {name}, {len(request.messages)} messages")
            return made

        return asked

    model = ScriptedModel(
        [turn("one", ["so ", Call("look_up", {"word": "x"})]), turn("two", ["it ", "is ", gate, "x"]), turn("3", "bye")]
    )
    agent = Agent(model, name="A", tools=[look_up])
    steps = [
        Step("first", executor=lambda given: done.append("step first")),
        Step("talk", agent=agent),
        Step("last", executor=lambda given: done.append("step last")),
        Step("bye", agent=agent),
    ]
    trial = Trial(Workflow("W", steps=steps), mode, stream_events=stream_events).start()
    gate.wait_reached()
    if cancelled:
        assert trial.cancel().wait(PATIENCE)
    gate.open()
    trial.finish()
    assert trial.error is None
    output = trial.runner.get_run(trial.run_id)
    done.append(f"{len(output.step_results)} results")
    done.append(str(output.content)[:3])
    return [*done, output.status.value]
