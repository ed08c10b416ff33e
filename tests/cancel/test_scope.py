"""The tree's decisions one by one; `tests/model_checking` walks their interleavings."""

from __future__ import annotations

import pytest

from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import NextAction, Outcome, Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunStateError

USER = CancelReason(source=Source.user, text="enough", by="me")
S = RunStatus


def tree(*, bound: bool = True, skip: bool = False) -> tuple[Scope, Scope, Scope]:
    """A running root with two running children."""
    root, one, two = Scope("root"), Scope("one", bound=bound, detached=skip), Scope("two", bound=True)
    root.begin()
    for child in (one, two):
        root.add_child(child)
        child.begin()
    return root, one, two


def test_a_request_by_a_childs_id_stops_the_whole_tree_children_first() -> None:
    """The default reach is the tree; who is to be interrupted is named, children before parents."""
    root, one, two = tree()
    verdict = one.request(USER)
    assert (verdict.outcome, verdict.target) == (Outcome.accepted, root)
    assert verdict.cancelled == [one, two, root]
    assert [scope.reason.source for scope in verdict.cancelled if scope.reason] == ["parent", "parent", "user"]
    assert all(scope.reason and scope.reason.text == "enough" for scope in verdict.cancelled)


def test_a_bound_child_that_is_cancelled_by_itself_takes_its_parent_along() -> None:
    """And its siblings: source `child` for the parent, `sibling` for them."""
    root, one, two = tree()
    verdict = one.request(USER, "run")
    assert (verdict.outcome, verdict.target, verdict.cancelled) == (Outcome.accepted, one, [one, two, root])
    assert [scope.reason and scope.reason.source for scope in (one, two, root)] == ["user", "sibling", "child"]


def test_skip_keeps_the_parent() -> None:
    """`on_cancel="skip"`: the parent goes on."""
    root, one, two = tree(skip=True)
    assert one.request(USER, "run").cancelled == [one]
    assert root.status is two.status is S.running


@pytest.mark.parametrize(("source", "falls"), [(Source.user, True), (Source.deadline, False)])
def test_a_free_childs_own_limit_is_its_own_matter(source: Source, falls: bool) -> None:
    """A child that no step stands for takes its parent along only if a user stops it."""
    root, one, _ = tree(bound=False)
    one.request(CancelReason(source=source), "run")
    assert (root.status is S.cancelling) is falls


@pytest.mark.parametrize("bound", [True, False])
def test_reach_own_never_climbs(bound: bool) -> None:
    """Whoever started the run deals with its end."""
    root, one, _ = tree(bound=bound)
    assert one.request(CancelReason(source=Source.consumer_closed), "own").cancelled == [one]
    assert root.status is S.running


def test_only_one_request_is_accepted() -> None:
    """The second hears that it is stopping, the third that it has, and the reason stays."""
    scope = Scope("r")
    scope.begin()
    assert scope.request(USER).outcome is Outcome.accepted
    assert scope.request(CancelReason(source=Source.deadline)).outcome is Outcome.already_cancelling
    scope.end_body()
    assert scope.advance() is NextAction.finalize
    scope.settle()
    assert scope.request(CancelReason(source=Source.deadline)).outcome is Outcome.already_cancelled
    assert scope.reason is USER


def test_completion_wins_when_it_is_first() -> None:
    """Then the request hears "finished"."""
    scope = Scope("r")
    scope.begin()
    scope.end_body()
    assert (scope.advance(), scope.status) == (NextAction.finalize, S.completed)
    assert scope.request(USER).outcome is Outcome.finished


def test_a_run_that_is_cancelled_before_it_starts_never_begins() -> None:
    """`begin` says so, once and for all."""
    scope = Scope("r")
    scope.request(USER)
    assert scope.begin() is False
    assert scope.advance() is NextAction.finalize


def test_a_child_of_a_cancelled_run_is_born_cancelled() -> None:
    """It never starts (guarantee 4)."""
    root, _, _ = tree()
    root.request(USER)
    late = Scope("late")
    root.add_child(late)
    assert late.status is S.cancelling and late.begin() is False
    assert late.reason and late.reason.source is Source.parent


def test_a_stray_of_a_run_that_is_over_stands_alone() -> None:
    """Code that outlives a completed run may start another; it is its own root."""
    root = Scope("root")
    root.begin()
    root.end_body()
    root.advance()
    stray = Scope("stray")
    root.add_child(stray)
    assert stray.root is stray and stray.begin()


def test_a_parent_joins_its_children() -> None:
    """A body that ends before its children: they are cancelled and waited for, then it completes."""
    root, one, two = tree(bound=False)
    root.end_body()
    assert root.advance() is NextAction.cancel_children
    assert root.cancel_children() == [one, two]
    for child in (one, two):
        assert root.advance() is NextAction.cancel_children and root.cancel_children() == []
        child.end_body()
        assert child.advance() is NextAction.finalize
        child.settle()
    assert (root.advance(), root.status) == (NextAction.finalize, S.completed)


def test_a_cancelled_run_waits_for_its_threads_until_the_grace_is_over() -> None:
    """Then it concludes without them, and only once."""
    scope = Scope("r")
    scope.begin()
    scope.work.add("thread")
    scope.request(USER)
    scope.end_body()
    assert scope.advance() is NextAction.wait
    assert scope.expire_grace() == [scope]
    assert scope.expire_grace() == []
    assert scope.advance() is NextAction.finalize
    assert scope.advance() is NextAction.wait


def test_an_illegal_move_is_an_error() -> None:
    """A run that announces twice is a mistake of ours, and told."""
    scope = Scope("r")
    scope.begin()
    scope.request(USER)
    with pytest.raises(RunStateError):
        scope._mark_cancelling(USER)
