"""The status table: every legal move, and an error that names run, status and signal for every other."""

from __future__ import annotations

import itertools

import pytest

from desist.cancel.status import MOVES, RunStatus, Transition, apply_transition, diagram
from desist.exceptions import RunStateError

S = RunStatus


def test_values_are_the_upper_case_names() -> None:
    """`RunStatus.cancelled == "CANCELLED"`, and so for each."""
    assert all(status == status.name.upper() for status in S)


@pytest.mark.parametrize(("status", "signal"), list(itertools.product(S, Transition)))
def test_every_move_is_in_the_table_or_an_error(status: RunStatus, signal: Transition) -> None:
    """A move either leads where the table says, or is refused by name."""
    if (status, signal) in MOVES:
        assert apply_transition("r1", status, signal) is MOVES[status, signal]
        return
    with pytest.raises(RunStateError, match=f"r1 is {status.value}: '{signal.value}' is not possible"):
        apply_transition("r1", status, signal)


def test_no_move_leads_out_of_a_final_status() -> None:
    """What has ended stays as it ended, and everything else can end."""
    for status in S:
        leaves = [signal for at, signal in MOVES if at is status]
        assert bool(leaves) is not status.is_final


def test_cancelling_leads_only_to_cancelled() -> None:
    """After an accepted request there is no other outcome; and there is no other way to CANCELLED."""
    assert [to for (at, _), to in MOVES.items() if at is S.cancelling] == [S.cancelled]
    assert [at for (at, _), to in MOVES.items() if to is S.cancelled] == [S.cancelling]


def test_a_cancel_is_possible_wherever_a_run_has_not_ended() -> None:
    """Before the start, running and paused."""
    assert {at for at, signal in MOVES if signal is Transition.cancel} == {S.pending, S.running, S.paused}


def test_the_diagram_shows_every_move() -> None:
    """The docs' picture is the table."""
    text = diagram()
    assert all(f"{at.value} --> {to.value}: {signal.value}" in text for (at, signal), to in MOVES.items())
    assert text.startswith("stateDiagram-v2")
