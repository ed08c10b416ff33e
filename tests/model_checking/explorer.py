"""Walks every interleaving of the real `Run`, `Scope` and `EventChannel` code, in one thread, without loop or clock.

What is real: every method of `Scope`, `EventChannel`, `Emitter`, `Interruption`, `RunLimits`, `Finalizer` (apart from
running hooks), the ownerships, and of `Run` all that neither starts tasks nor waits. What isn't: the event loop, the
timer thread, the registry. Calls that are made without the lock are put on an agenda (`explorer_fakes`), and taken from
it in every order, between everything that bodies, threads, cancellers, graces, the store and the reader may do
(`explored_transitions`). States are told apart by the fields of the real objects (`explored_state`);
`explored_invariants` says what must hold.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from explored_state import World
from explorer_fakes import Violation

from desist.cancel.status import RunStatus
from desist.run.execution import finalizer, interruption, ownership, store_ownership
from desist.run.execution import run as driver

__all__ = ["Found", "explore"]


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
    """The driver meets the world instead of the timer thread, the registry and the clock."""
    places = [(interruption, "timers"), (interruption, "time"), (finalizer, "time")]
    places += [(ownership, "registry"), (store_ownership, "registry"), (driver, "registry")]
    saved = [getattr(module, name) for module, name in places]
    log = logging.getLogger("desist")
    level = log.level
    gc.disable()  # it would look at every state again and again, and there are no cycles to find
    log.setLevel(logging.CRITICAL)
    for module, name in places:
        setattr(module, name, world)
    try:
        yield
    finally:
        gc.enable()
        for (module, name), value in zip(places, saved, strict=True):
            setattr(module, name, value)
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
        self.stopping, self.stopped = [world.stopping()], [world.stopped()]
        self.edges: list[tuple[int, int, str]] = []
        self.found = Found(1, 0, 0)

    def run(self) -> Found:
        at = 0
        try:
            while self.states:
                at, state = self.states.popleft()
                self._expand(at, state)
            self._liveness("overrun", "though no grace runs out")
            self._liveness("body", "though no body or thread does anything")
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
                self.stopped.append(world.stopped())
                self.states.append((new, after))
            self.edges.append((at, new, move[0]))
        if not moves:
            self.found.ends += 1
            world.thaw(state)
            world.check_over()

    def _liveness(self, without: str, words: str) -> None:
        """From each state in which a cancel was accepted, what was cancelled can settle without one sort of steps.

        The steps of the system are finite, so "can" means that they do once those steps are all that is left.
        """
        back: dict[int, list[int]] = {}
        for source, target, sort in self.edges:
            if sort != without and not (without == "body" and sort == "cancel"):
                back.setdefault(target, []).append(source)
        good = [at for at, stopped in enumerate(self.stopped) if stopped]
        seen = set(good)
        while good:
            for source in back.get(good.pop(), ()):
                if source not in seen:
                    seen.add(source)
                    good.append(source)
        for at, halting in enumerate(self.stopping):
            if halting and at not in seen:
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
