# ruff: noqa: RUF012 - a scenario is a table
"""One run, every interleaving: body, late emits, threads, cancellers, deadline, reader, grace, store. See `explorer`.

States and steps are printed with `pytest -s`: 31 k states and 90 k steps in four scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from explored_state import World
from explorer import explore

from desist.cancel.reason import Source
from desist.cancel.run_phase import BodyState
from desist.cancel.scope import NextAction, Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunCancelled
from desist.run.execution.emitter import Emitter
from desist.run.execution.finalizer import Finalizer
from desist.run.execution.interruption import Interruption
from desist.run.execution.run import Run
from desist.streams.channel import EventChannel


class TwoCancellers(World):
    """Two with different reasons, the second with force; the reader may leave, the body may fail or emit late."""

    content = {"R": 1}
    cancellers = {"K1": ("R", Source.user, "tree", False), "K2": ("R", Source.user, "tree", True)}


class DeadlineAndThread(World):
    """A deadline and a canceller race; a thread ends before the grace, after it, or never."""

    content = {"R": 1}
    threads_of = {"W": "R"}
    cancellers = {"K1": ("R", Source.user, "tree", False), "D": ("R", Source.deadline, "run", False)}
    reader_may_leave = False


class OwnCancel(World):
    """The body itself raises `RunCancelled`; it goes on emitting through its cancel; one canceller."""

    content = {"R": 2}
    cancellers = {"K1": ("R", Source.user, "tree", False)}

    def body_moves(self, name: str, run: Run) -> Iterator[tuple[str, ...]]:
        yield from super().body_moves(name, run)
        if self.ghost.began[name] and run.scope.body is BodyState.running and not self.ghost.refused[name]:
            yield ("body", "quit", name)

    def do_quit(self, name: str) -> None:
        self.runs[name]._explain_cancellation(RunCancelled("enough"))
        self.ghost.refused[name] = True


class Hooks(World):
    """Hooks clean up after the body; they may hang; a thread too; a second cancel forces."""

    content = {}
    hooks = True
    threads_of = {"W": "R"}
    cancellers = {"K1": ("R", Source.user, "tree", False), "K2": ("R", Source.user, "tree", True)}
    reader_may_leave = late = reads_along = False


@pytest.mark.parametrize("scenario", [TwoCancellers, DeadlineAndThread, OwnCancel, Hooks])
def test_no_interleaving_of_one_run_breaks_the_promise(scenario: type[World]) -> None:
    """In every order of everything that can happen to one run, all invariants hold and it settles."""
    found = explore(scenario)
    print(scenario.__name__, found)
    assert not found.violation, str(found)
    assert found.states > 500 and found.ends > 10


# -- seeded mistakes: each must be found, or the walk proves nothing


def complete_without_decision(patch: pytest.MonkeyPatch) -> None:
    """The body's end sets COMPLETED, whatever was decided."""
    real = Scope.advance

    def advance(self: Scope) -> NextAction:
        due = real(self)
        if due is NextAction.finalize and not self.grace_expired and not self.failed:
            self.status = RunStatus.completed
        return due

    patch.setattr(Scope, "advance", advance)


def put_on_a_sealed_sink(patch: pytest.MonkeyPatch) -> None:
    """`emit` doesn't look at the status."""

    def emit(self: Emitter, event: object, apply: object = None) -> None:
        with self.run.lock:
            self.put(event)

    patch.setattr(Emitter, "emit", emit)


def keep_the_backlog(patch: pytest.MonkeyPatch) -> None:
    """What the reader hasn't taken stays."""
    patch.setattr(EventChannel, "discard", lambda self, doomed: None)


def tell_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    """The terminal event doesn't wait for the store."""
    real = Finalizer.finalize

    def finalize(self: Finalizer) -> None:
        real(self)
        self.settle([])

    patch.setattr(Finalizer, "finalize", finalize)


def forget_the_thread(patch: pytest.MonkeyPatch) -> None:
    """CANCELLED while a thread of the run still works and isn't abandoned."""
    real = Scope.advance

    def advance(self: Scope) -> NextAction:
        work, self.work = self.work, set()
        due = real(self)
        self.work = work
        return due

    patch.setattr(Scope, "advance", advance)


def never_give_up(patch: pytest.MonkeyPatch) -> None:
    """The end of the grace does nothing: a body that hangs holds its reader for ever."""
    patch.setattr(Scope, "expire_grace", lambda self: [])


def end_without_asking(patch: pytest.MonkeyPatch) -> None:
    """The end of a thread doesn't ask what is due now."""

    def call_ended(self: Interruption, call: object) -> None:
        with self.run.lock:
            self.run.scope.work.discard(call)

    patch.setattr(Interruption, "call_ended", call_ended)


def second_reason_wins(patch: pytest.MonkeyPatch) -> None:
    """A repeated cancel overwrites the reason of the first."""
    real = Interruption.shorten

    def shorten(self: Interruption, grace: float, force: bool) -> None:
        assert self.run.record is not None
        self.run.record.reason = "another"
        real(self, grace, force)

    patch.setattr(Interruption, "shorten", shorten)


@pytest.mark.parametrize(
    ("mistake", "scenario", "words"),
    [
        (complete_without_decision, TwoCancellers, "COMPLETED"),
        (put_on_a_sealed_sink, OwnCancel, "content was put"),
        (keep_the_backlog, OwnCancel, "can be delivered"),
        (tell_before_it_is_stored, OwnCancel, "before it is stored"),
        (forget_the_thread, DeadlineAndThread, "while it works"),
        (never_give_up, OwnCancel, "never settle"),
        (end_without_asking, DeadlineAndThread, "settle"),
        (second_reason_wins, TwoCancellers, "reason"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_seeded_mistake_is_found(
    mistake: object, scenario: type[World], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk of one run finds this mistake, and names what it breaks."""
    mistake(monkeypatch)  # type: ignore[operator]
    found = explore(scenario)
    print(getattr(mistake, "__name__", ""), found)
    assert words in found.violation, str(found)
