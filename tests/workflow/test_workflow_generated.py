"""Every container, every point in it, sync and async, streamed or not: cancelled there, what the promise says holds.

The cases are generated from a description of the tree, see `generated_workflows`; Hypothesis only chooses, the same
ones each time.
"""

from __future__ import annotations

from collections import Counter

import pytest
from cancel_trial import MODES, Mode
from event_grammar import check_grammar
from generated_workflows import GENERATED, Case, every_point, pick, trees
from hypothesis import example, given, settings
from hypothesis import strategies as st
from workflow_descriptions import Node, visits

from desist.cancel import RunStatus
from desist.run.cancel import cancel


# An interrupt may land in a callback of the garbage collector, hypothesis's own say: it is lost there, and sent again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(GENERATED, max_examples=160)
@given(
    tree=trees(), number=st.integers(0, 100), mode=st.sampled_from(MODES), between=st.booleans(), blocked=st.booleans()
)
def test_cancelled_anywhere(tree: Node, number: int, mode: Mode, between: bool, blocked: bool) -> None:
    """Guarantees 1, 4, 5, 6: whatever was running, nothing further starts, finished outputs are kept as they were,
    each run has one end, children first, and the stored status is what the receipt said."""
    visit = pick(tree, number)
    with Case(tree, mode) as case:
        case.stop_at(visit, between=between and visit.is_leaf, beside_blocked=blocked)


def test_cancelled_at_every_point_of_every_container(mode: Mode) -> None:
    """The same at all points of each container alone: before, in child k, between, and in what it asks."""
    for tree, number in every_point(mode):
        visit = pick(tree, number)
        for between in (False, True) if visit.is_leaf else (False,):
            with Case(tree, mode) as case:
                case.stop_at(visit, between=between, beside_blocked=number % 2 == 0)


@settings(GENERATED, max_examples=30)
@given(tree=trees(), mode=st.sampled_from(MODES))
@example(tree=Node("steps", (Node("parallel", (Node("sync"),)),)).named(), mode=MODES[0])
def test_cancelled_before_it_starts(tree: Node, mode: Mode) -> None:
    """A run that was cancelled before it began does nothing at all, and says so."""
    with Case(tree, mode) as case:
        cancel(case.trial.run_id, reason="enough", by="me")
        case.trial.start().finish()
    stored = case.journal.last(case.trial.run_id)
    assert case.script.entered == [] and stored["status"] == "CANCELLED" and stored["step_results"] == []
    assert case.trial.output.status is RunStatus.cancelled
    if mode.stream:
        check_grammar(case.trial.events, case.trial.run_id)


@settings(GENERATED, max_examples=60)
@given(tree=trees(), mode=st.sampled_from(MODES))
def test_left_alone(tree: Node, mode: Mode) -> None:
    """A run that nobody cancels goes through the visits that its description names, and its stream is well formed."""
    with Case(tree, mode) as case:
        case.trial.start().finish()
    expected = [visit.key for visit in visits(tree, Counter())]
    assert Counter(case.script.entered) == Counter(expected)
    assert case.trial.error is None and case.trial.output.status is RunStatus.completed, case.trial.output
    case.check_stream()
