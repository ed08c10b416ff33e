# ruff: noqa: RUF012 - a scenario is a table
"""One run whose record another process sees, every interleaving: its end, cancels from here and there, the writer.

What is real: as in `explorer`, and `EndConfirmation`, `Run.apply_cancel_request`. The record is a row of three values;
a transaction is one step. The other process asks in a transaction of its own, is heard later or never, and takes the
run over when it isn't.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from explored_invariants import STOPPED
from explored_state import World
from explorer import explore
from explorer_fakes import Violation

from desist.cancel.reason import CancelReason, Source
from desist.cancel.run_phase import ConfirmationState, EndState
from desist.cancel.scope import Scope
from desist.cancel.status import RunStatus
from desist.exceptions import LeaseLostError
from desist.run.storage.values import CancelRequest

S = RunStatus
ASKED = CancelRequest(reason=CancelReason(source=Source.user, text="from there", by="F", requested_at=0.0))


class Shared(World):
    """A canceller here, one in another process, which may take the run over; the body completes or fails."""

    shared = True
    content = {}
    cancellers = {"K1": ("R", Source.user, "tree", False)}
    reader_may_leave = late = False
    may_be_taken = True
    may_be_silent = False

    def __init__(self) -> None:
        self.cancel: str | None = None  #: the row's request
        self.ended: RunStatus | None = None  #: the row's end
        self.taken = False  #: another process has raised the epoch
        self.told_there: str | None = None  #: what the other process was told
        self.heard_here = self.silent = False
        super().__init__()

    # -- the store, as the run sees it

    def end_run(self, run_id: str, decide: Any) -> Any:
        return SimpleNamespace(add_done_callback=lambda callback: self.then("decide", run_id))

    def events_added(self, buffer: Any) -> None:
        """What is stored of its events isn't looked at here."""

    def retry_in_background(self, stored: Any, error: BaseException) -> None:
        self.ghost.stored[stored.run_id] = stored.status

    def do_decide(self, name: str) -> None:
        """The writer's transaction."""
        run = self.runs[name]
        if self.silent and run.ownership.confirmation.state is ConfirmationState.unconfirmed:
            run.ownership.confirmation.decide()
        elif self.cancel is not None:
            self.then("answered", name, "asked")
        elif self.taken:
            self.then("answered", name, "lost")
        else:
            stored = run.ownership.confirmation.decide()
            if stored is not None:
                self.ended = self.ghost.stored[name] = stored.status
            self.then("answered", name, "done")

    def do_answered(self, name: str, how: str) -> None:
        if self.silent:  # whoever waited was told already
            return
        error = LeaseLostError("taken") if how == "lost" else None
        done = SimpleNamespace(exception=lambda: error, result=lambda: ASKED if how == "asked" else None)
        self.runs[name].ownership.confirmation.on_answer(done)  # type: ignore[arg-type]

    def do_ask(self, name: str) -> None:
        self.runs[name].ownership.confirmation.ask()

    def do_silence(self, name: str) -> None:
        """The writer's patience is over."""
        self.silent = True
        self.runs[name].ownership.confirmation.on_failed(TimeoutError("the store didn't answer"))

    def do_durable(self, name: str, status: RunStatus) -> None:
        self.ended = self.ended or status
        super().do_durable(name, status)

    # -- the other process

    def moves(self) -> Iterator[tuple[str, ...]]:
        yield from super().moves()
        if self.told_there is None:
            yield ("there", "request")
        elif self.cancel is not None and not self.heard_here:
            yield ("there", "heard")
            if self.may_be_taken and self.ended is None:
                yield ("there", "take")
        waits = any(step[0] in ("decide", "answered") for step in self.ghost.agenda)
        if self.may_be_silent and waits and not self.silent:
            yield ("system!", "silence", "R")

    def do_request(self) -> None:
        """One transaction: the request, or the end that came before."""
        if self.ended is None:
            self.cancel, self.told_there = "there", "accepted"
        else:
            self.told_there = "accepted" if self.ended is S.cancelled else "finished"

    def do_heard(self) -> None:
        self.heard_here = True
        self.runs["R"].apply_cancel_request(ASKED)

    def do_take(self) -> None:
        self.taken, self.ended, self.heard_here = True, S.cancelled, False

    # -- states

    def freeze(self) -> tuple[Any, ...]:
        run = self.runs["R"]
        confirmation = run.ownership.confirmation
        ours = (self.cancel, self.ended, self.taken, self.told_there, self.heard_here, self.silent)
        return (*super().freeze(), ours, confirmation.state)

    def thaw(self, state: tuple[Any, ...]) -> None:
        super().thaw(state)
        self.cancel, self.ended, self.taken, self.told_there, self.heard_here, self.silent = state[2]
        run = self.runs["R"]
        confirmation = run.ownership.confirmation
        confirmation.state = state[3]
        status, decided = self.ghost.closing["R"], confirmation.state is ConfirmationState.decided
        confirmation._closing = [self.event(status.value, "R")] if decided and status else []
        confirmation._error = TimeoutError() if confirmation.state is ConfirmationState.overdue else None

    def check(self) -> None:
        super().check()
        status = self.runs["R"].scope.status
        if self.silent:
            return  # what isn't recorded can't be true for another process; the output says so
        if self.told_there == "accepted" and status in (S.completed, S.error):
            raise Violation(f"the other process was told accepted, but the run is {status.value}")
        if self.told_there == "finished" and status in STOPPED:
            raise Violation(f"the other process was told finished, but the run is {status.value}")
        if self.ended is not None and status.is_final and status is not self.ended:
            raise Violation(f"the run is {status.value}, recorded is {self.ended.value}")


class Silent(Shared):
    """The store may not answer in time: the run ends all the same, and once."""

    may_be_silent = True
    may_be_taken = False


@pytest.mark.parametrize("scenario", [Shared, Silent])
def test_no_interleaving_of_two_processes_breaks_the_promise(scenario: type[World]) -> None:
    """Guarantee 1 across processes: in every order one decision, and every receipt says it, here and there."""
    found = explore(scenario)
    print(scenario.__name__, found)
    assert not found.violation, str(found)
    assert found.states > 300 and found.ends > 5


def complete_without_asking(patch: pytest.MonkeyPatch) -> None:
    """The end is decided here, and then written."""
    real = Scope.advance

    def advance(self: Scope) -> Any:
        self.needs_confirmation = False
        return real(self)

    patch.setattr(Scope, "advance", advance)


def decide_without_the_lock_here(patch: pytest.MonkeyPatch) -> None:
    """The writer takes the end for decided, whatever was decided here meanwhile."""

    def confirm(self: Scope) -> bool:
        self.status, self.end = S.completed, EndState.finalizing
        return True

    patch.setattr(Scope, "confirm", confirm)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (complete_without_asking, "was told accepted"),
        (decide_without_the_lock_here, "K1 was told accepted"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_seeded_mistake_is_found(mistake: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk finds this mistake."""
    mistake(monkeypatch)
    found = explore(Shared)
    print(mistake.__name__, found)
    assert found.violation and words in found.violation, str(found)
