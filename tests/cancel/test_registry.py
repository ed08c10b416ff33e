"""The registry: intents that are bounded, expire and meet their run; ids that are used again; ended ids."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import RunRegistry
from desist.cancel.registry import registry as the_registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import RunIdInUseError
from desist.run.cancel import cancel
from desist.run.execution.run import Run, new_id
from desist.run.storage.store import MemoryStore
from desist.runtime.latch import Latch
from desist.workflow import Step, StepInput, Workflow

USER = CancelReason(source=Source.user, text="enough")


class Live:
    """A run, as the registry sees it."""

    def __init__(self, run_id: str, root: Live | None = None) -> None:
        self.run_id, self.record, self.settled = run_id, None, Latch()
        self.root: Live = root or self
        self.cancelled: list[str | None] = []
        self.scope: Any = SimpleNamespace()

    def cancel(self, reason: CancelReason, **_: Any) -> CancelReceipt:
        self.cancelled.append(reason.text)
        return CancelReceipt(Outcome.accepted, self.run_id, lambda: RunStatus.cancelling)


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_unknown_ids_are_bounded() -> None:
    """100,000 wrong ids leave 10,000 intents, the newest."""
    registry = RunRegistry()
    for number in range(100_000):
        assert not registry.cancel(f"wrong-{number}", USER)
    assert registry.pending_cancels == 10_000
    assert registry.add(Live("wrong-99999")) is USER  # type: ignore[arg-type]
    assert registry.add(Live("wrong-0")) is None  # type: ignore[arg-type]


def test_an_intent_expires() -> None:
    """A run that starts later isn't harmed by it."""
    clock = Clock()
    registry = RunRegistry(clock=clock, intent_ttl=60)
    assert registry.cancel("r", USER).outcome is Outcome.unknown
    clock.now = 60.0
    assert registry.add(Live("r")) is None  # type: ignore[arg-type]
    assert registry.pending_cancels == 0


def test_an_intent_that_follows_an_expired_one_holds() -> None:
    """The stale one doesn't stand in its way, nor take it along when it goes."""
    clock = Clock()
    registry = RunRegistry(clock=clock, intent_ttl=60)
    registry.cancel("r", USER)
    clock.now = 61.0
    again = CancelReason(source=Source.user, text="again")
    registry.cancel("r", again)
    clock.now = 100.0
    assert registry.add(Live("r")) is again  # type: ignore[arg-type]


def test_the_first_intent_wins_and_counts_once() -> None:
    """A repeat doesn't change it; the run takes it with it."""
    registry = RunRegistry()
    registry.cancel("r", USER)
    registry.cancel("r", CancelReason(source=Source.user, text="later"))
    run = Live("r")
    assert registry.add(run) is USER  # type: ignore[arg-type]
    registry.end(run, RunStatus.cancelled)  # type: ignore[arg-type]
    assert registry.add(Live("r")) is None  # type: ignore[arg-type]


def test_a_live_id_is_not_given_twice() -> None:
    """The error names it; after the end it may be used again."""
    registry = RunRegistry()
    run = Live("r")
    registry.add(run)  # type: ignore[arg-type]
    with pytest.raises(RunIdInUseError, match="'r' belongs to a live run"):
        registry.add(Live("r"))  # type: ignore[arg-type]
    registry.end(run, RunStatus.completed)  # type: ignore[arg-type]
    assert registry.cancel("r", USER).outcome is Outcome.finished
    registry.add(Live("r"))  # type: ignore[arg-type]
    assert registry.cancel("r", USER).outcome is Outcome.accepted


def test_an_ended_childs_id_finds_its_tree_while_that_lives() -> None:
    """Scope "tree" reaches the root; scope "run" hears how the child ended."""
    registry = RunRegistry()
    root = Live("root")
    child = Live("child", root)
    for run in (root, child):
        registry.add(run)  # type: ignore[arg-type]
    registry.end(child, RunStatus.completed)  # type: ignore[arg-type]
    assert registry.cancel("child", USER).run_id == "root"
    assert root.cancelled == ["enough"]
    assert registry.cancel("child", USER, reach="run").outcome is Outcome.finished
    registry.end(root, RunStatus.cancelled)  # type: ignore[arg-type]
    assert registry.cancel("child", USER).outcome is Outcome.finished


def test_an_ended_childs_id_never_finds_a_later_run_of_its_roots_id() -> None:
    """A cancel that comes too late doesn't harm another run."""
    registry = RunRegistry()
    root = Live("root")
    child = Live("child", root)
    for run in (root, child):
        registry.add(run)  # type: ignore[arg-type]
    for run in (child, root):
        registry.end(run, RunStatus.completed)  # type: ignore[arg-type]
    later = Live("root")
    registry.add(later)  # type: ignore[arg-type]
    assert registry.cancel("child", USER).outcome is Outcome.finished
    assert later.cancelled == []


def test_ended_runs_are_bounded() -> None:
    """The oldest is forgotten, and then unknown."""
    registry = RunRegistry(max_ended=3)
    for number in range(5):
        run = Live(f"r{number}")
        registry.add(run)  # type: ignore[arg-type]
        registry.end(run, RunStatus.completed)  # type: ignore[arg-type]
    assert registry.cancel("r1", USER).outcome is Outcome.unknown
    assert registry.cancel("r2", USER).outcome is Outcome.finished


def test_a_cancel_before_the_start_holds() -> None:
    """The run that starts with this id does nothing and ends CANCELLED, with the words of that request."""
    done: list[str] = []

    def step(given: StepInput) -> str:
        done.append("step")
        return "done"

    run_id = new_id()
    assert cancel(run_id, reason="never mind").outcome is Outcome.unknown
    output = Workflow(steps=[Step("one", executor=step)]).run("go", run_id=run_id)
    assert (output.status, output.cancel and output.cancel.reason, done) == ("CANCELLED", "never mind", [])


class Quiet:
    """A body that does nothing."""

    kind = "agent"

    def __init__(self) -> None:
        self.output = SimpleNamespace(status=None, cancel=None)

    def conclude(self, *_: Any) -> list[Any]:
        return []

    def is_visible(self, event: Any) -> bool:
        return False


@pytest.mark.loud
def test_a_child_that_is_found_by_its_id_is_in_its_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel in the very moment in which a child is registered stops the whole tree, and nothing waits for ever."""
    root = Run.open(Quiet(), store=MemoryStore())  # type: ignore[arg-type]
    root.scope.begin()
    receipts: list[CancelReceipt] = []
    threads: list[threading.Thread] = []
    real = the_registry.add

    def add(run: Run) -> Any:
        intent = real(run)
        thread = threading.Thread(target=lambda: receipts.append(cancel(run.run_id)))
        thread.start()
        thread.join(0.05)
        threads.append(thread)
        return intent

    monkeypatch.setattr(the_registry, "add", add)
    from desist.run.execution import run as driver

    mark = driver._current.set(root)
    try:
        Run.open(Quiet(), store=MemoryStore())  # type: ignore[arg-type]
    finally:
        driver._current.reset(mark)
    threads[0].join(5)
    assert receipts[0].run_id == root.run_id and root.status is RunStatus.cancelling
    root._end_body(None)
    assert root.settled.wait(5) and root.status is RunStatus.cancelled
