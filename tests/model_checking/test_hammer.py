"""Ten thousand real races through the public API: cancellers in threads against completion, sync and async.

Every race has a seed of its own, which says what runs, who cancels what and when, and whether the reader leaves.
What is checked holds whoever wins. The split of outcomes is printed (`pytest -s`) and must have both.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from desist.agent import Agent
from desist.calls import thread_pool as worker
from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.run.events.base import RunStatus
from desist.run.execution.run import new_id
from desist.testing import ScriptedModel
from desist.testing.leaks import assert_no_leaks
from desist.workflow import Step, StepInput, Workflow

RACES_ASYNC, RACES_SYNC, AT_ONCE, SEED = 7500, 2500, 40, 20_240_601


async def pieces(given: StepInput) -> AsyncIterator[str]:
    """An async function step that says a few words."""
    for word in ["three", "small", "words"]:
        await asyncio.sleep(0)
        yield word


def sync_pieces(given: StepInput) -> Iterator[str]:
    """A sync one, in a worker thread."""
    yield "two "
    yield "words"


def plain(given: StepInput) -> str:
    """A sync function step."""
    return "done"


async def nested(given: StepInput, dependencies: dict[str, Any]) -> str:
    """An agent that is called in a function: a child by itself."""
    output = await agent.arun("hello", run_id=dependencies["child"])
    return str(output.content)


model = ScriptedModel("a few words from a model", repeat=True)
agent = Agent(model, name="A")
SHAPES = {
    "function": Workflow("function", grace=100, steps=[Step("one", executor=pieces), Step("two", executor=pieces)]),
    "agent": Workflow("agent", grace=100, steps=[Step("one", agent=agent), Step("two", executor=pieces)]),
    "skip": Workflow(
        "skip", grace=100, steps=[Step("one", agent=agent, on_cancel="skip"), Step("two", executor=pieces)]
    ),
    "nested": Workflow("nested", grace=100, steps=[Step("one", executor=nested), Step("two", executor=pieces)]),
    "thread": Workflow("thread", grace=100, steps=[Step("one", executor=sync_pieces), Step("two", executor=plain)]),
}


class Race:
    """One run, and who cancels it when."""

    def __init__(self, number: int, shapes: list[str]) -> None:
        dice = random.Random(SEED + number)
        self.shape = dice.choice(shapes)
        self.workflow = SHAPES[self.shape]
        self.run_id, self.child_id = new_id(), new_id()
        self.stream = dice.random() < 0.7
        self.stream_events = dice.random() < 0.7
        self.leaves_at = dice.randrange(12) if dice.random() < 0.1 else None
        self.cancels: list[tuple[int, dict[str, Any]]] = []
        for who in range(dice.choice([0, 1, 2, 2, 3])):
            scope = dice.choice(["tree", "tree", "run"])
            how = {"reason": f"reason {who}", "by": f"canceller {who}", "scope": scope, "force": dice.random() < 0.2}
            on_child = self.shape in ("agent", "skip", "nested") and dice.random() < 0.5
            self.cancels.append(
                (dice.randrange(24) if self.stream else dice.choice([0, 1]), {**how, "child": on_child})
            )
        self.receipts: list[tuple[dict[str, Any], CancelReceipt]] = []
        self.accepted_at = float("inf")
        self.asked = threading.Semaphore(0)
        self.due = 0
        self.events: list[Any] = []
        self.late: list[str] = []

    def options(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "dependencies": {"child": self.child_id}}

    def moment(self, number: int) -> None:
        """The reader is at this event: ask for what is due. A child is cancelled once its id is known."""
        rest = []
        for at, how in self.cancels:
            if at > number or (how["child"] and not self.child_known()):
                rest.append((at, how))
            else:
                self.due += 1
                jobs.put((self, how))
        self.cancels = rest

    def child_known(self) -> bool:
        if self.shape == "nested":
            return True
        own = [event.run_id for event in self.events if event.run_id != self.run_id]
        self.child_id = own[0] if own else self.child_id
        return bool(own)

    def take(self, event: Any, asked_at: float) -> None:
        self.events.append(event)
        if event.is_content and asked_at > self.accepted_at:
            self.late.append(repr(event))

    def cancel(self, how: dict[str, Any]) -> None:
        """In a canceller's thread."""
        words = {key: value for key, value in how.items() if key != "child"}
        receipt = self.workflow.cancel(self.child_id if how["child"] else self.run_id, **words)
        if receipt.outcome is Outcome.accepted and receipt.run_id == self.run_id:
            self.accepted_at = time.monotonic()
        self.receipts.append((how, receipt))
        self.asked.release()

    # -- the two ways to run it

    def run(self) -> None:
        self.moment(0)
        if not self.stream:
            self.moment(1)
            self.output = self.workflow.run("go", **self.options())
            return
        with self.workflow.run("go", stream=True, stream_events=self.stream_events, **self.options()) as reader:
            asked_at = time.monotonic()
            for event in reader:
                self.take(event, asked_at)
                self.moment(len(self.events))
                if self.leaves_at == len(self.events):
                    break
                asked_at = time.monotonic()

    async def arun(self) -> None:
        self.moment(0)
        if not self.stream:
            task = asyncio.create_task(self.workflow.arun("go", **self.options()))
            await asyncio.sleep(0)
            self.moment(1)
            self.output = await task
            return
        reader = self.workflow.arun("go", stream=True, stream_events=self.stream_events, **self.options())
        async with reader:
            asked_at = time.monotonic()
            async for event in reader:
                self.take(event, asked_at)
                self.moment(len(self.events))
                if self.leaves_at == len(self.events):
                    break
                asked_at = time.monotonic()

    # -- what must hold

    def judge(self) -> str:
        """Check everything; return the outcome."""
        for _ in range(self.due):
            assert self.asked.acquire(timeout=20), "a canceller didn't answer"
        output = self.workflow.get_run(self.run_id)
        assert output is not None, "the run isn't stored"
        status = output.status
        assert status in (RunStatus.cancelled, RunStatus.completed), f"it ended {status}: {output.content}"
        cancelled = status is RunStatus.cancelled
        if self.stream:
            self.judge_events(status)
        else:
            assert self.output.status is status, f"returned {self.output.status}, stored {status}"
        self.judge_receipts(cancelled, output)
        assert not self.late, f"content was delivered to a reader that asked after the cancel: {self.late}"
        left = self.leaves_at is not None and self.leaves_at <= len(self.events)
        if cancelled:
            assert output.cancel is not None and output.cancel.settled_at is not None
            forced = any(how["force"] for how, _ in self.receipts)  # 10 ms, which a busy loop may need
            assert forced or not output.cancel.abandoned, output.cancel.abandoned
            sources = {"user", "child"} | ({"consumer_closed"} if left else set())
            assert output.cancel.source.value in sources, output.cancel.source
        return "left" if left and cancelled and output.cancel.source.value == "consumer_closed" else status.value

    def judge_events(self, status: RunStatus) -> None:
        ends = [event for event in self.events if event.is_terminal]
        own = [event for event in ends if event.run_id == self.run_id]
        ids = [event.run_id for event in ends]
        assert len(ids) == len(set(ids)), f"two terminal events of one run: {ends}"
        if self.leaves_at is None or self.leaves_at > len(self.events):
            assert len(own) == 1 and self.events[-1] is own[0], f"the terminal event isn't last: {ends}"
        if own:
            assert own[0].status is status, f"told {own[0].status}, stored {status}"
            started = {event.run_id for event in self.events} - {self.run_id}
            if self.stream_events:
                assert started <= set(ids), "a child has no terminal event"

    def judge_receipts(self, cancelled: bool, output: Any) -> None:
        winners = []
        for how, receipt in self.receipts:
            if receipt.outcome is Outcome.unknown:
                assert not receipt
                assert cancelled, "the intent was remembered, but the run wasn't cancelled"
                continue
            assert receipt.wait(20), f"{receipt} never settled"
            assert bool(receipt) is (receipt.status is RunStatus.cancelled), receipt
            assert receipt.status is not None and receipt.status.is_final, receipt
            if receipt.run_id == self.run_id:
                assert bool(receipt) is cancelled, f"{receipt}, but the run ended {output.status}"
            if receipt:
                carried = receipt.run_id != self.run_id and self.shape != "skip"
                assert cancelled or not carried, f"the child was cancelled: {receipt}; the run ended {output.status}"
            if receipt.outcome is Outcome.accepted:
                winners.append((receipt.run_id, how))
                assert receipt.reason == how["reason"] and receipt.by == how["by"], "accepted, but another's reason"
        targets = [target for target, _ in winners]
        assert len(targets) == len(set(targets)), f"accepted more than once: {winners}"
        if cancelled and self.run_id in targets:
            how = dict(winners)[self.run_id]
            assert output.cancel.reason == how["reason"], f"{output.cancel} isn't the first's: {how}"


jobs: queue.SimpleQueue[tuple[Race, dict[str, Any]] | None] = queue.SimpleQueue()


def canceller() -> None:
    """Cancel what is asked for."""
    while (job := jobs.get()) is not None:
        job[0].cancel(job[1])


@pytest.fixture
def cancellers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three threads that cancel."""
    monkeypatch.setattr(worker, "IDLE", 0.2)
    threads = [threading.Thread(target=canceller, name=f"canceller {number}") for number in range(3)]
    for thread in threads:
        thread.start()
    yield
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join(10)


def judged(races: list[Race]) -> Counter[str]:
    """Judge them all; say which failed, by number and seed."""
    split: Counter[str] = Counter()
    for race in races:
        try:
            split[race.judge()] += 1
        except AssertionError as error:
            story = [f"{how} -> {receipt}" for how, receipt in race.receipts]
            raise AssertionError(
                f"{race.shape} {race.run_id} {race.events[-3:]}: {error}\n" + "\n".join(story)
            ) from error
    return split


def check_split(split: Counter[str], races: int, began: float) -> None:
    print(f"{races} races in {time.monotonic() - began:.1f} s: {dict(split)}")
    assert sum(split.values()) == races
    for outcome in ("CANCELLED", "COMPLETED"):
        assert split[outcome] >= races // 20, f"hardly any run ended {outcome}: this proves nothing: {split}"


async def race_all(numbers: range, shapes: list[str]) -> Counter[str]:
    """Run races on this loop, some at once."""
    split: Counter[str] = Counter()
    todo = iter(numbers)

    async def lane() -> None:
        for number in todo:
            race = Race(number, shapes)
            await race.arun()
            while race.asked._value < race.due:  # a canceller is still on it
                await asyncio.sleep(0)
            split.update(judged([race]))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(lane())
    return split


def test_async_races_tell_the_truth(cancellers: None) -> None:
    """7,500 runs on one loop: receipts, events, outputs and store agree, and nothing is left behind."""
    shapes = ["function", "agent", "skip", "nested"]
    asyncio.run(race_all(range(100), shapes))
    began = time.monotonic()
    with assert_no_leaks(settle=5):
        split = asyncio.run(race_all(range(RACES_ASYNC), shapes))
    check_split(split, RACES_ASYNC, began)
    assert not registry.live()


def test_sync_races_tell_the_truth(cancellers: None) -> None:
    """2,500 runs of six threads on the home loop, with work in threads: the same holds."""
    shapes = list(SHAPES)
    numbers = range(100_000, 100_000 + RACES_SYNC)

    def lane(number: int) -> Counter[str]:
        race = Race(number, shapes)
        race.run()
        return judged([race])

    with ThreadPoolExecutor(6) as warm:
        list(warm.map(lane, range(50)))
    began = time.monotonic()
    split: Counter[str] = Counter()
    # Loops of user code stay: one is added when another didn't take a call in time, on a busy machine.
    with assert_no_leaks(settle=5, threads=6, fds=24, sockets=12), ThreadPoolExecutor(6) as pool:
        for part in pool.map(lane, numbers):
            split += part
    check_split(split, RACES_SYNC, began)
    assert not registry.live() and not abandoned_threads()
