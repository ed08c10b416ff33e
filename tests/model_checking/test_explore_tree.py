# ruff: noqa: RUF012 - a scenario is a table
"""A tree, every interleaving: children side by side, one by itself, cancels of each with each reach. See `explorer`.

The body of the root opens its children and completes when those that it waits for have settled, as a step does.
Bodies may hang, complete, fail or be unwound; the grace may end at any time; storing is a step of its own.
States and steps are printed with `pytest -s`: some 150 k states and 570 k steps in six scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from explored_state import World
from explorer import explore

from desist.cancel.reason import CancelReason, Source
from desist.cancel.run_phase import BodyState
from desist.cancel.scope import NextAction, Scope
from desist.cancel.status import RunStatus
from desist.run.execution.finalizer import Finalizer
from desist.run.execution.run import Run
from desist.streams.channel import EventChannel


class SideBySide(World):
    """A and B are steps of R. A is cancelled by itself."""

    runs_of = {"R": (None, False, False), "A": ("R", True, False), "B": ("R", True, False)}
    content = {"A": 1}
    cancellers = {"K1": ("A", Source.user, "run", False)}
    may_fail = ()
    late, reads_along, reader_may_leave = False, False, False
    prompt = ("R", "A")
    waits_for = ("A", "B")

    def may_complete(self, name: str) -> bool:
        waited = (self.runs[child].settled.is_set and self.ghost.opened[child] for child in self.waits_for)
        return name != "R" or all(waited)


class WholeTree(SideBySide):
    """The whole tree is cancelled by the id of a child; B may fail meanwhile."""

    cancellers = {"K1": ("A", Source.user, "tree", False)}
    may_fail = ("B",)


class Skipped(SideBySide):
    """The step of A says on_cancel="skip": A is cancelled by itself, then perhaps the whole, with force."""

    runs_of = {"R": (None, False, False), "A": ("R", True, True)}
    waits_for = ("A",)
    cancellers = {"K1": ("A", Source.user, "run", False), "K2": ("R", Source.user, "tree", True)}
    reads_along = reader_may_leave = True


class ByItself(SideBySide):
    """F was started by a tool: R doesn't wait for it. F and R are cancelled, or R ends first."""

    runs_of = {"R": (None, False, False), "F": ("R", False, False)}
    waits_for = ()
    content = {"F": 1}
    cancellers = {"K1": ("F", Source.user, "run", False), "K2": ("F", Source.user, "tree", False)}
    may_fail = ("R",)
    prompt = ("R",)


class BothKinds(SideBySide):
    """A step A and a free F. F has a deadline of its own, which doesn't harm R; A has one, which does."""

    runs_of = {"R": (None, False, False), "A": ("R", True, False), "F": ("R", False, False)}
    waits_for = ("A",)
    content = {}
    cancellers = {"D1": ("F", Source.deadline, "run", False), "D2": ("A", Source.deadline, "run", False)}
    prompt = ("R", "A", "F")


class Failing(SideBySide):
    """A fails: the step's code lets go of B, which nobody takes for a cancel of R, and fails R."""

    cancellers = {"K2": ("R", Source.user, "tree", False)}
    content = {}
    prompt = ("R", "A", "B")
    may_fail = ("A", "R")

    def may_complete(self, name: str) -> bool:
        return super().may_complete(name) and not (name == "R" and self._a_failed())

    def body_moves(self, name: str, run: Run) -> Iterator[tuple[str, ...]]:
        for move in super().body_moves(name, run):
            if move[1:] != ("fail", "R") or self._a_failed():
                yield move
        b = self.runs["B"].scope
        lets_go = self._a_failed() and self.ghost.opened["B"] and b.reason is None and not b.status.is_final
        if name == "R" and lets_go and run.scope.body is BodyState.running:
            yield ("body", "let go", "B")

    def _a_failed(self) -> bool:
        return self.runs["A"].settled.is_set and self.runs["A"].scope.status is RunStatus.error

    def do_let_go(self, name: str) -> None:
        self.runs[name].stop(Source.consumer_closed, "the task that waited for the run was cancelled")


SCENARIOS = [SideBySide, WholeTree, Skipped, ByItself, BothKinds, Failing]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_interleaving_of_a_tree_breaks_the_promise(scenario: type[World]) -> None:
    """In every order of everything that can happen to a small tree, all invariants hold and all its runs settle."""
    found = explore(scenario)
    print(scenario.__name__, found)
    assert not found.violation, str(found)
    assert found.states > 500 and found.ends > 5


# -- seeded mistakes


def not_joining(patch: pytest.MonkeyPatch) -> None:
    """The parent ends while its children live."""
    real = Scope.advance

    def advance(self: Scope) -> NextAction:
        children, self.children = self.children, {}
        due = real(self)
        self.children = children
        return due

    patch.setattr(Scope, "advance", advance)


def not_telling_children(patch: pytest.MonkeyPatch) -> None:
    """A cancel stays where it was asked for."""

    def strike(self: Scope, reason: CancelReason) -> list[Scope]:
        if self.status.is_final or self.status is RunStatus.cancelling:
            return []
        self._mark_cancelling(reason)
        return [self]

    patch.setattr(Scope, "_cancel_subtree", strike)


def not_carrying_up(patch: pytest.MonkeyPatch) -> None:
    """A step that is cancelled by itself is taken for done."""
    names = [name for name in vars(Scope) if name == "_parent_that_must_stop"]
    assert names
    patch.setattr(Scope, "_parent_that_must_stop", lambda *_: None)


def siblings_left_alone(patch: pytest.MonkeyPatch) -> None:
    """The parent falls with its child, the child's siblings don't."""
    real = Scope._cancel_subtree

    def strike(self: Scope, reason: CancelReason) -> list[Scope]:
        return [] if reason.source is Source.sibling else real(self, reason)

    patch.setattr(Scope, "_cancel_subtree", strike)


def born_alive(patch: pytest.MonkeyPatch) -> None:
    """A child that is opened under a cancelled run isn't cancelled."""

    def adopt(self: Scope, child: Scope) -> None:
        child.parent = self
        self.children[child.run_id] = child

    patch.setattr(Scope, "add_child", adopt)


def told_too_early(patch: pytest.MonkeyPatch) -> None:
    """A child's "cancelled" isn't held back until the root is stored."""
    patch.setattr(EventChannel, "put_deferred", EventChannel.put)


def backlog_of_children(patch: pytest.MonkeyPatch) -> None:
    """What a child said stays in the backlog."""
    patch.setattr(EventChannel, "discard", lambda self, doomed: None)


def parent_not_asked(patch: pytest.MonkeyPatch) -> None:
    """A child's end doesn't ask its parent what is due."""
    real = Finalizer.settle

    def settle(self: Finalizer, events: list[object]) -> None:
        real(self, events)
        world = self._run.world  # type: ignore[attr-defined]
        world.ghost.agenda = [step for step in world.ghost.agenda if step[0] != "advance"]

    patch.setattr(Finalizer, "settle", settle)


@pytest.mark.parametrize(
    ("mistake", "scenario", "words"),
    [
        (not_joining, WholeTree, "its child"),
        (not_telling_children, WholeTree, "can be delivered"),
        (not_carrying_up, SideBySide, "is COMPLETED though its bound child A"),
        (siblings_left_alone, SideBySide, "began under a cancelled run"),
        (born_alive, WholeTree, "began under a cancelled run"),
        (told_too_early, WholeTree, "before the root is stored"),
        (backlog_of_children, WholeTree, "can be delivered"),
        (parent_not_asked, WholeTree, "stuck"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_seeded_mistake_is_found(
    mistake: object, scenario: type[World], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk of a tree finds this mistake, and names what it breaks."""
    mistake(monkeypatch)  # type: ignore[operator]
    found = explore(scenario)
    print(getattr(mistake, "__name__", ""), found)
    assert words in found.violation, str(found)
