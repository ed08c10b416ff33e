"""The plan of the chaos harness follows from its seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from bench.chaos.phases import PHASES
from bench.chaos.plan import KINDS, Ask, Fault, make_plan


@pytest.mark.parametrize("db", ["sqlite", "postgres"])
def test_a_seed_is_a_plan(db: str) -> None:
    """The same seed gives the same plan, another one another; all kinds of runs, cancels and faults are in it."""
    plan, again, other = (make_plan(db, seed=seed, runs=500, seconds=90) for seed in (7, 7, 8))
    assert plan == again and plan.mark == again.mark
    assert plan.actions != other.actions and plan.mark != other.mark
    assert {start.kind for start in plan.starts} == set(KINDS)
    assert {ask.where for ask in plan.asks} == {"own", "desk", "before", "twice", "after"}
    ours = {"full", "locked"} if db == "sqlite" else {"restart", "terminate", "freeze_server"}
    workers = {"kill", "freeze_short", "freeze_long", "kill_follower", *(f"kill_{phase}" for phase in PHASES)}
    plans = [make_plan(db, seed=seed, runs=500, seconds=90) for seed in range(4)]
    assert {fault.what for plan in plans for fault in plan.faults} == ours | workers


def test_in_the_order_of_time() -> None:
    """What is to be done is done in its order; a fault that the machine can't make is left out."""
    plan = make_plan("sqlite", seed=3, runs=200, seconds=40, spared=("full",))
    assert all(one.at <= two.at for one, two in pairwise(plan.actions))
    assert "full" not in {fault.what for fault in plan.faults}
    assert any(isinstance(action, Fault) for action in plan.actions)
    assert any(isinstance(action, Ask) and action.slot < 0 for action in plan.actions)
