"""The table of internal states: closed, complete, and an error that names run, state and event for every other move."""

from __future__ import annotations

import itertools
from enum import Enum

import pytest

from desist.cancel.reason import CancelReason, Source
from desist.cancel.run_phase import (
    PHASE_MOVES,
    BodyState,
    CleanupState,
    ConfirmationState,
    EndState,
    GraceState,
    PhaseEvent,
    apply_event,
    diagrams,
)
from desist.cancel.scope import Scope
from desist.exceptions import RunStateError

MACHINES: list[type[Enum]] = [BodyState, CleanupState, GraceState, EndState, ConfirmationState]
REASON = CancelReason(source=Source.user)
STATES = [state for machine in MACHINES for state in machine]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, PhaseEvent)), ids=str)
def test_every_move_is_in_the_table_or_an_error(state: Enum, event: PhaseEvent) -> None:
    """A move leads where the table says, within its machine; every other is refused by name."""
    if (state, event) in PHASE_MOVES:
        after = apply_event("r1", state, event)  # type: ignore[type-var]
        assert after is PHASE_MOVES[state, event] and type(after) is type(state)  # type: ignore[index]
        return
    with pytest.raises(RunStateError, match=f"r1: {type(state).__name__} is '{state.value}': '{event.value}'"):
        apply_event("r1", state, event)  # type: ignore[type-var]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_is_reached_and_the_last_is_final(machine: type[Enum]) -> None:
    """From the first state of a machine moves lead to each of its states, and the last has no move out of it."""
    reached, waiting = set(), [next(iter(machine))]
    while waiting:
        state = waiting.pop()
        reached.add(state)
        waiting += [to for (at, _), to in PHASE_MOVES.items() if at is state and to not in reached]
    assert reached == set(machine)
    assert {to for (at, _), to in PHASE_MOVES.items() if at is list(machine)[-1]} <= {list(machine)[-1]}


@pytest.mark.parametrize("state", BodyState)
def test_a_cancel_is_possible_wherever_the_body_stands(state: BodyState) -> None:
    """The scope marks thousands of runs without a look into the table: it does what the table says."""
    scope = Scope[None]("r")
    scope.body = state
    scope._cancel_subtree(REASON)
    assert scope.body is PHASE_MOVES[state, PhaseEvent.cancel]
    assert scope.grace is PHASE_MOVES[GraceState.none, PhaseEvent.cancel]


def test_an_end_is_settled_once() -> None:
    """A second settle is a mistake of ours, and no second terminal event."""
    scope = Scope[None]("r")
    scope.request(REASON)
    scope.advance()
    scope.settle()
    with pytest.raises(RunStateError, match="EndState is 'settled'"):
        scope.settle()


def test_the_diagrams_show_each_move() -> None:
    """Each move between two states is an arrow of the diagram of its machine."""
    for machine in MACHINES:
        arrows = diagrams()[machine.__name__].count("-->") - 1
        assert arrows == sum(isinstance(at, machine) and at is not to for (at, _), to in PHASE_MOVES.items())
