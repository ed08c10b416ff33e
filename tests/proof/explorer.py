"""Walks every interleaving of the real `Run`, `Scope` and `Bridge` code, one thread, no loop, no clock.

What is real: every method of `Scope` and `Bridge`, and `Run.open`, `emit`, `cancel`, `stop`, `_fell`, `_interrupt`,
`_deliver`, `_give_grace`, `_hurry`, `_overrun`, `_abandon`, `_advance`, `_conclude`, `_announce`, `_tell_end`,
`_unwound`, `_end_body`, `work_started`, `work_ended`. What is not: the event loop and the reaper thread. `Stepped`
changes only *when*: wherever the driver lets go of its lock and calls on, the call is put on an agenda, and the
explorer takes the agenda's calls in every order, between everything that bodies, threads, cancellers, timers, the
store and the reader may do. States are told apart by the fields of the real objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from desist.cancel.bridge import Closed
from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import Abandoned, CancelRecord
from desist.cancel.scope import Body, Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run import driver
from desist.run.driver import Run

S = RunStatus
STOPPED = (S.cancelling, S.cancelled)
LATER = 1e9  # a time when every grace is over


class Violation(Exception):
    """An invariant doesn't hold."""


class Event:
    """An event; one object for each meaning, so that equal states have equal queues."""

    __slots__ = ("event_index", "is_content", "is_terminal", "kind", "run_id")

    def __init__(self, kind: str, run_id: str) -> None:
        self.kind, self.run_id = kind, run_id
        self.is_content, self.is_terminal = kind == "content", kind in ("CANCELLED", "COMPLETED", "ERROR")
        self.event_index: int | None = None

    def __repr__(self) -> str:
        return f"{self.run_id}.{self.kind}"


class Work:
    """A blocking call of a run."""

    interrupt_by = "auto"
    shielded_until = 0.0

    def __init__(self, name: str) -> None:
        self.name = name

    def stop(self, grace: float, *, force: bool = False) -> None:
        """It ends when the explorer says so."""

    def abandon(self) -> Abandoned:
        return Abandoned(name=self.name, kind="thread")


class Story:
    """A body, as far as the driver asks it."""

    kind = "agent"

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.output = SimpleNamespace(status=S.pending, cancel=None, session_id=None)

    def conclude(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        if self.world.ghost.closing[self.name] is not None:
            raise Violation(f"{self.name} concludes twice")
        self.world.ghost.closing[self.name] = status
        return [self.world.event(status.value, self.name)]

    def shows(self, event: Event) -> bool:
        return True


class Stepped(Run):
    """The real driver, whose calls outside of the lock are steps of their own."""

    world: World

    def _interrupt(self, hits: Any, force: bool = False) -> None:
        self.world.then("interrupt", self.run_id, tuple(hit.run_id for hit in hits), force)

    def _advance(self) -> None:
        self.world.then("advance", self.run_id)

    def _conclude(self) -> None:
        self.world.then("conclude", self.run_id)

    def _announce(self, events: list[Any]) -> None:
        self.world.then("announce", self.run_id, tuple(events))


class Durable:
    """What the store returns: the write becomes durable in a step of its own."""

    def __init__(self, world: World, name: str, status: RunStatus) -> None:
        self.world, self.name, self.status = world, name, status

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.world.then("durable", self.name, self.status)
        # the callback is `_announce(events)`; the events follow from name and status
        self.world.ghost.waiting[self.name] = True


@dataclass
class Ghost:
    """What the explorer itself remembers."""

    agenda: list[tuple[Any, ...]] = field(default_factory=list)
    opened: dict[str, bool] = field(default_factory=dict)
    stray: dict[str, bool] = field(default_factory=dict)  #: opened by an abandoned body, when its run was ending
    began: dict[str, bool] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)  #: content still to be emitted
    refused: dict[str, bool] = field(default_factory=dict)  #: an emit raised: the body knows
    threads: dict[str, str] = field(default_factory=dict)  #: blocking calls: "", "runs", "over"
    closing: dict[str, RunStatus | None] = field(default_factory=dict)
    waiting: dict[str, bool] = field(default_factory=dict)
    stored: dict[str, RunStatus | None] = field(default_factory=dict)
    receipts: dict[str, tuple[Any, ...] | None] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)  #: terminal events that the reader got, in order
    reader: str = "reads"

    def freeze(self) -> tuple[Any, ...]:
        return (
            frozenset(self.agenda),
            *[tuple(part.values()) for part in self._parts],
            tuple(self.heard),
            self.reader,
        )

    def thaw(self, frozen: tuple[Any, ...]) -> None:
        self.agenda = list(frozen[0])
        for part, values in zip(self._parts, frozen[1:-2], strict=True):
            for key, value in zip(part, values, strict=True):
                part[key] = value
        self.heard, self.reader = list(frozen[-2]), frozen[-1]

    def fix(self) -> None:
        """All keys are known now."""
        self._parts: tuple[dict[str, Any], ...] = (
            self.opened,
            self.stray,
            self.began,
            self.left,
            self.refused,
            self.threads,
            self.closing,
            self.waiting,
            self.stored,
            self.receipts,
        )


class World:
    """A fixed set of runs and everything that may happen to them next. Scenarios say which runs and what happens."""

    #: name -> (parent or None, bound, skip)
    runs_of: dict[str, tuple[str | None, bool, bool]] = {"R": (None, False, False)}
    content: dict[str, int] = {"R": 1}  #: how much each may emit
    threads_of: dict[str, str] = {}  #: work name -> run
    #: canceller -> (run, source, reach, force)
    cancellers: dict[str, tuple[str, Source, Any, bool]] = {}
    reader_may_leave = True
    may_fail: tuple[str, ...] = ("R",)
    late = True  #: whether bodies go on after their run has settled: a no-op that doubles the states of each run
    prompt: tuple[str, ...] = ()  #: runs whose bodies begin in the step that opens them

    def __init__(self) -> None:
        self.ghost = Ghost()
        self.clock = 0.0
        self._events: dict[tuple[str, str], Event] = {}
        self._reasons: dict[tuple[Any, ...], CancelReason] = {}
        self.works = {name: Work(name) for name in self.threads_of}
        self.runs: dict[str, Stepped] = {}
        Stepped.world = self
        for name, (parent, bound, skip) in self.runs_of.items():
            run = Stepped(
                Story(self, name),  # type: ignore[arg-type]
                run_id=name,
                store=self,  # type: ignore[arg-type]
                grace=1.0,
                parent=self.runs[parent] if parent else None,
                bound=bound,
            )
            run.scope.skip = skip
            self.runs[name] = run
        ghost = self.ghost
        for name in self.runs:
            ghost.opened[name] = self.runs_of[name][0] is None
            ghost.began[name] = ghost.refused[name] = ghost.waiting[name] = ghost.stray[name] = False
            ghost.left[name] = self.content.get(name, 0)
            ghost.closing[name] = ghost.stored[name] = None
        ghost.threads = dict.fromkeys(self.threads_of, "")
        ghost.receipts = dict.fromkeys(self.cancellers)
        ghost.fix()

    # -- what stands in for the loop, the reaper, the registry, the store

    def then(self, *step: Any) -> None:
        if step not in self.ghost.agenda:  # what is due already isn't due twice
            self.ghost.agenda.append(step)

    def at(self, due: float, action: Any) -> Any:
        """The reaper: a grace that was given may run out at any time."""
        if self.clock == LATER and due <= LATER:
            raise Violation("a timer whose time has come sets itself anew: the reaper would spin")
        self.ghost.agenda = [step for step in self.ghost.agenda if step != ("overrun", action.__self__.run_id)]
        self.then("overrun", action.__self__.run_id)

    def add(self, run: Run) -> None:
        """The registry's part of opening."""

    def end(self, run: Run, status: RunStatus) -> None:
        if status is not self.ghost.stored[run.run_id]:
            raise Violation(f"{run.run_id} ended {status.value}, stored {self.ghost.stored[run.run_id]}")

    def save_run(self, stored: Any) -> Durable:
        return Durable(self, stored.run_id, stored.status)

    def monotonic(self) -> float:
        return self.clock

    def time(self) -> float:
        return 0.0

    def event(self, kind: str, name: str) -> Event:
        return self._events.setdefault((kind, name), Event(kind, name))

    # -- states

    def freeze(self) -> tuple[Any, ...]:
        return (self.ghost.freeze(), tuple([self._freeze_run(run) for run in self.runs.values()]))

    def _freeze_run(self, run: Stepped) -> tuple[Any, ...]:
        scope, record, bridge = run.scope, run.record, run.bridge
        reason = scope.reason
        return (
            scope.status,
            reason and (reason.source, reason.text, reason.by),
            scope.parent is not None,
            tuple(sorted(scope.children)),
            tuple(sorted([work.name for work in scope.work])),
            scope.body,
            scope.failed,
            scope.given_up,
            scope.concluding,
            record and (record.settled_at is not None, tuple([item.name for item in record.abandoned])),
            run.error is not None,
            run.body.output.status,
            run.settled.is_set,
            run.tasks.started,
            run.token.cancelled,
            run._due,
            (tuple(bridge._items), tuple(bridge._held), bridge.closed) if run.teller is run else None,
        )

    def thaw(self, state: tuple[Any, ...]) -> None:
        self.ghost.thaw(state[0])
        for run, frozen in zip(self.runs.values(), state[1], strict=True):
            self._thaw_run(run, frozen)

    def _thaw_run(self, run: Stepped, frozen: tuple[Any, ...]) -> None:
        scope = run.scope
        (status, reason, adopted, children, works, body, failed, given_up, concluding) = frozen[:9]
        (record, error, told, settled, delivered, token, due, queue) = frozen[9:]
        scope.status, scope.reason = status, self._reason(reason)
        parent = self.runs_of[run.run_id][0]
        scope.parent = self.runs[parent].scope if adopted and parent else None
        scope.children = {name: self.runs[name].scope for name in children}
        scope.work = {self.works[name] for name in works}
        scope.body, scope.failed, scope.given_up, scope.concluding = body, failed, given_up, concluding
        run.record = None
        if record is not None:
            assert scope.reason is not None
            run.record = CancelRecord.of(scope.reason)
            run.record.settled_at = 0.0 if record[0] else None
            run.record.abandoned = [Abandoned(name=name, kind="thread", since=0.0) for name in record[1]]
        run.error = RuntimeError("the body failed") if error else None
        run.body.output.status, run.body.output.cancel = told, run.record
        run.settled._set, run.tasks.started, run._due = settled, delivered, due
        run.token._reason = (scope.reason or _ANY) if token else None
        if queue is not None:
            bridge = run.bridge
            bridge._items.clear()
            bridge._items.extend(queue[0])
            bridge._held[:] = queue[1]
            bridge._closed = queue[2]

    def _reason(self, key: tuple[Any, ...] | None) -> CancelReason | None:
        if key is None:
            return None
        if key not in self._reasons:
            self._reasons[key] = CancelReason(source=key[0], text=key[1], by=key[2], requested_at=0.0)
        return self._reasons[key]

    # -- what may happen next

    def moves(self) -> Iterator[tuple[str, ...]]:
        """Every step that is possible now. The first word says of what sort it is."""
        ghost = self.ghost
        for step in set(ghost.agenda):
            yield ("overrun" if step[0] == "overrun" else "system", *step)
        for name, target in self.cancellers.items():
            if ghost.receipts[name] is None and ghost.opened[target[0]]:
                yield ("cancel", name)
        if ghost.reader == "reads":
            bridge = self.runs["R"].bridge
            if bridge._items or bridge.closed:
                yield ("reader", "get")
            if self.reader_may_leave:
                yield ("reader", "leave")
        for name, run in self.runs.items():
            if ghost.opened[name]:
                yield from self.body_moves(name, run)
            elif self.may_open(name):
                yield ("body", "open", name)
        for work, name in self.threads_of.items():
            if ghost.threads[work] == "runs":
                yield ("body", "work ends", work)
            elif ghost.threads[work] == "" and self.runs[name].scope.body is Body.running:
                yield ("body", "work starts", work)

    def may_open(self, name: str) -> bool:
        parent = self.runs_of[name][0]
        return parent is not None and self.runs[parent].scope.body is Body.running

    def body_moves(self, name: str, run: Stepped) -> Iterator[tuple[str, ...]]:
        ghost, scope = self.ghost, run.scope
        if run.settled.is_set and not self.late:
            return
        if not ghost.began[name]:
            yield ("body", "begin", name)
            return
        if ghost.left[name]:
            yield ("body", "emit", name)  # also after its end: a task of its own, a thread
        if scope.body is not Body.running:
            return
        if self.may_complete(name):
            yield ("body", "complete", name)
        if name in self.may_fail:
            yield ("body", "fail", name)
        if run.tasks.started or ghost.refused[name]:
            yield ("body", "unwind", name)

    def may_complete(self, name: str) -> bool:
        return True

    # -- doing it

    def do(self, move: tuple[Any, ...]) -> None:
        sort, what, *rest = move
        if sort in ("system", "overrun"):
            self.ghost.agenda.remove(move[1:])
        before = [run.scope.status for run in self.runs.values()]
        getattr(self, "do_" + what.replace(" ", "_"))(*rest) if sort != "cancel" else self.do_cancel(what)
        for run, old in zip(self.runs.values(), before, strict=True):
            if run.scope.status is not old:
                self.check_move(run, old)
        self.check()

    def do_interrupt(self, name: str, hits: tuple[str, ...], force: bool) -> None:
        Run._interrupt(self.runs[name], [self.runs[hit].scope for hit in hits], force)

    def do_advance(self, name: str) -> None:
        Run._advance(self.runs[name])

    def do_conclude(self, name: str) -> None:
        Run._conclude(self.runs[name])

    def do_durable(self, name: str, status: RunStatus) -> None:
        self.ghost.stored[name] = status
        if self.ghost.waiting[name]:
            self.do_announce(name, (self.event(status.value, name),))

    def do_announce(self, name: str, events: tuple[Event, ...]) -> None:
        run, root = self.runs[name], self.runs["R"]
        if self.ghost.stored[name] is None:
            raise Violation(f"{name} tells its end before it is stored")
        for other, (parent, _, _) in self.runs_of.items():
            if parent == name and self.joined(other) and not self.runs[other].scope.status.is_final:
                raise Violation(f"{name} tells its end before its child {other}")
        Run._announce(run, list(events))
        told = [event for event in root.bridge._items if event.run_id == name and event.kind == "CANCELLED"]
        if told and root.scope.status is S.cancelling:
            raise Violation(f"{name} is told cancelled before the root is stored")

    def do_overrun(self, name: str) -> None:
        self.clock = LATER
        try:
            Run._overrun(self.runs[name])
        finally:
            self.clock = 0.0

    def do_cancel(self, who: str) -> None:
        name, source, reach, force = self.cancellers[who]
        reason = CancelReason(source=source, text=who, by=who, requested_at=0.0)
        receipt = self.runs[name].cancel(reason, reach=reach, force=force)
        self.ghost.receipts[who] = (receipt.outcome, receipt.run_id, receipt.reason)

    def do_get(self) -> None:
        ghost, bridge = self.ghost, self.runs["R"].bridge
        try:
            event = bridge.get()
        except Closed:
            ghost.reader = "end"
            if not ghost.heard or ghost.heard[-1] != "R":
                raise Violation("the stream ended without the root's terminal event at its end") from None
            return
        if "R" in ghost.heard:
            raise Violation(f"{event} came after the terminal event")
        if event.is_content:
            for name in (event.run_id, "R"):
                if self.runs[name].scope.status in STOPPED:
                    raise Violation(f"{event} was delivered after {name} was cancelled")
        if event.is_terminal:
            if event.run_id in ghost.heard:
                raise Violation(f"a second terminal event of {event.run_id}")
            if event.kind != self.runs[event.run_id].scope.status.value:
                raise Violation(f"{event} was told, but it is {self.runs[event.run_id].scope.status.value}")
            ghost.heard.append(event.run_id)

    def do_leave(self) -> None:
        self.ghost.reader = "left"
        if not self.runs["R"].settled.is_set:
            self.runs["R"].stop(Source.consumer_closed, "the reader was closed")

    def do_open(self, name: str) -> None:
        run = self.runs[name]
        parent, bound, skip = self.runs_of[name]
        assert parent is not None
        self.ghost.stray[name] = self.runs[parent].scope.concluding
        mark = driver._current.set(self.runs[parent])
        try:
            Run.open.__func__(lambda *_, **__: run, run.body, store=self, bound=bound, skip=skip)  # type: ignore[attr-defined]
        finally:
            driver._current.reset(mark)
        self.ghost.opened[name] = True
        if name in self.prompt:
            self.do_begin(name)

    def do_begin(self, name: str) -> None:
        """What `Run._main` does first."""
        run, ghost = self.runs[name], self.ghost
        ghost.began[name] = True
        above = run.scope.parent
        if run.scope.begin():
            if above is not None and above.status in STOPPED:
                raise Violation(f"{name} began under a cancelled run")
            run.body.output.status = S.running
        else:
            ghost.left[name] = 0

    def do_emit(self, name: str) -> None:
        run, ghost = self.runs[name], self.ghost
        ghost.left[name] -= 1
        counts = run.scope.status is S.running
        try:
            run.emit(self.event("content", name))
        except RunCancelled:
            ghost.refused[name] = True
            if counts:
                raise Violation(f"{name} runs, but its content was refused") from None
        else:
            if not counts:
                raise Violation(f"{name} is {run.scope.status.value}, but its content was put")

    def do_complete(self, name: str) -> None:
        self.runs[name]._end_body(None)

    def do_fail(self, name: str) -> None:
        self.runs[name]._end_body(RuntimeError("the body failed"))

    def do_unwind(self, name: str) -> None:
        run = self.runs[name]
        run._end_body(run._unwound(asyncio.CancelledError()))

    def do_work_starts(self, work: str) -> None:
        run = self.runs[self.threads_of[work]]
        counts = run.scope.status is S.running
        try:
            run.work_started(self.works[work])  # type: ignore[arg-type]
        except RunCancelled:
            self.ghost.threads[work] = "over"
        else:
            self.ghost.threads[work] = "runs"
            if not counts:
                raise Violation(f"{work} started after the decision")

    def do_work_ends(self, work: str) -> None:
        self.ghost.threads[work] = "over"
        self.runs[self.threads_of[work]].work_ended(self.works[work])  # type: ignore[arg-type]

    # -- what must hold

    def check_move(self, run: Stepped, old: RunStatus) -> None:
        new = run.scope.status
        if old.is_final:
            raise Violation(f"{run.run_id} left {old.value} for {new.value}")
        if new is S.cancelled:
            self.check_gone(run)
        if new is S.completed:
            for name, (parent, _, _) in self.runs_of.items():
                child = self.runs[name].scope
                if parent == run.run_id and self.joined(name) and not child.status.is_final:
                    raise Violation(f"{run.run_id} completed with its child {name} {child.status.value}")

    def check_gone(self, run: Stepped) -> None:
        """Cancelled means: all work has stopped, or has been declared abandoned."""
        scope = run.scope
        if (scope.body is not Body.ended or scope.work) and not scope.given_up:
            raise Violation(f"{run.run_id} is CANCELLED while it works")
        if scope.given_up and scope.body is not Body.ended and not (run.record and run.record.abandoned):
            raise Violation(f"{run.run_id} is CANCELLED, works on, and that isn't named")

    def joined(self, name: str) -> bool:
        """Whether a child was opened while its parent took children."""
        return self.ghost.opened[name] and not self.ghost.stray[name]

    def check(self) -> None:
        accepted: list[str] = []
        for who, receipt in self.ghost.receipts.items():
            if receipt is None:
                continue
            outcome, name, reason = receipt
            run = self.runs[name]
            stopped = run.scope.status in STOPPED
            if (outcome is not Outcome.finished) is not stopped:
                raise Violation(f"{who} was told {outcome.value} of {name}, which is {run.scope.status.value}")
            if outcome is Outcome.accepted:
                accepted.append(name)
            if stopped and (run.record is None or run.record.reason != reason):
                raise Violation(f"{who} was told the reason {reason!r}, recorded is {run.record!r}")
        if len(accepted) != len(set(accepted)):
            raise Violation(f"accepted more than once: {accepted}")
        for name, (parent, bound, skip) in self.runs_of.items():
            if parent and bound and not skip and self.runs[parent].scope.status is S.completed:
                if self.joined(name) and self.runs[name].scope.status in STOPPED:
                    raise Violation(f"{parent} is COMPLETED though its bound child {name} was cancelled")

    def over(self) -> bool:
        """Every opened run has settled and the reader has heard it or left."""
        if self.ghost.reader == "reads":
            return False
        for name, run in self.runs.items():
            if self.ghost.opened[name] and not (run.settled.is_set and run.scope.status.is_final):
                return False
        return True

    def stopping(self) -> bool:
        """Whether a cancel was accepted."""
        return any(run.scope.status in STOPPED for run in self.runs.values())

    def check_over(self) -> None:
        """An end state: nothing can happen any more."""
        if not self.over():
            stuck = {name: run.scope.status.value for name, run in self.runs.items()}
            raise Violation(f"stuck: {stuck}, the reader {self.ghost.reader}")
        if self.ghost.reader == "end":
            must = {name for name, run in self.runs.items() if self.joined(name) and run.teller.run_id == "R"}
            if not must <= set(self.ghost.heard):
                raise Violation(f"terminal events of {self.ghost.heard}, but the runs were {must}")


_ANY = CancelReason(source=Source.parent, requested_at=0.0)


@dataclass
class Found:
    """What an exploration found."""

    states: int
    steps: int
    ends: int
    violation: str = ""
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.states} states, {self.steps} steps, {self.ends} ends"
        return f"{text}; VIOLATION: {self.violation}\n    " + "\n    ".join(self.trace) if self.violation else text


@contextmanager
def single_threaded(world: World) -> Iterator[None]:
    """The driver meets the world instead of the reaper, the registry and the clock."""
    saved = driver.reaper, driver.registry, driver.time
    log = logging.getLogger("desist")
    level = log.level
    log.setLevel(logging.CRITICAL)
    driver.reaper = driver.registry = driver.time = world  # type: ignore[assignment]
    try:
        yield
    finally:
        driver.reaper, driver.registry, driver.time = saved
        log.setLevel(level)


def explore(scenario: type[World]) -> Found:
    """Walk all states of a scenario, breadth first; stop at the first violation, whose trace is then a shortest one."""
    world = scenario()
    with single_threaded(world):
        return _Search(world).run()


class _Search:
    def __init__(self, world: World) -> None:
        self.world = world
        if "R" in world.prompt:
            world.do_begin("R")
        first = world.freeze()
        self.ids: dict[tuple[Any, ...], int] = {first: 0}
        self.states: deque[tuple[int, tuple[Any, ...]]] = deque([(0, first)])
        self.came: list[tuple[int, tuple[Any, ...]] | None] = [None]
        self.stopping, self.over = [world.stopping()], [world.over()]
        self.edges: list[tuple[int, int, str]] = []
        self.found = Found(1, 0, 0)

    def run(self) -> Found:
        at = 0
        try:
            while self.states:
                at, state = self.states.popleft()
                self._expand(at, state)
            self._liveness("overrun", "though no grace runs out")
            self._liveness("body", "though no body, thread or reader does anything")
        except Violation as violation:
            self.found.violation = str(violation)
            if not self.found.trace:
                self.found.trace = self._trace(at)
        self.found.states = len(self.ids)
        return self.found

    def _expand(self, at: int, state: tuple[Any, ...]) -> None:
        world = self.world
        world.thaw(state)
        moves = sorted(world.moves(), key=repr)
        for move in moves:
            world.thaw(state)
            self.found.steps += 1
            try:
                world.do(move)
            except Violation:
                self.found.trace = [*self._trace(at), _words(move)]
                raise
            after = world.freeze()
            new = self.ids.setdefault(after, len(self.ids))
            if new == len(self.came):
                self.came.append((at, move))
                self.stopping.append(world.stopping())
                self.over.append(world.over())
                self.states.append((new, after))
            self.edges.append((at, new, move[0]))
        if not moves:
            self.found.ends += 1
            world.thaw(state)
            world.check_over()

    def _liveness(self, without: str, words: str) -> None:
        """From each state in which a cancel was accepted, all runs can settle without one sort of steps.

        The steps of the system are finite, so "can" means that they do once those steps are all that is left.
        """
        back: dict[int, list[int]] = {}
        for source, target, sort in self.edges:
            if sort != without and not (without == "body" and sort == "cancel"):
                back.setdefault(target, []).append(source)
        good = [at for at, over in enumerate(self.over) if over]
        seen = set(good)
        while good:
            for source in back.get(good.pop(), ()):
                if source not in seen:
                    seen.add(source)
                    good.append(source)
        for at, stopping in enumerate(self.stopping):
            if stopping and at not in seen:
                self.found.trace = self._trace(at)
                raise Violation(f"from here the runs never settle, {words}")

    def _trace(self, at: int) -> list[str]:
        steps: list[str] = []
        while (came := self.came[at]) is not None:
            at = came[0]
            steps.append(_words(came[1]))
        return steps[::-1]


def _words(move: tuple[Any, ...]) -> str:
    return " ".join(str(part.value if isinstance(part, RunStatus) else part) for part in move)
