"""The whole harness finds workers that work wrongly on purpose: what it says isn't only of histories made up."""

from __future__ import annotations

from pathlib import Path

from bench.chaos.controller import Controller
from bench.chaos.history import History
from bench.chaos.mistakes import MISTAKES
from bench.chaos.notes import read_notes
from bench.chaos.plan import Ask, Fault, Plan, Start
from bench.chaos.sites import open_site
from bench.chaos.verdict import judge

FROZEN, KILLED, CANCELLED = "s0-0000-quick", "s0-0001-quick", "s0-0002-quick"


def test_workers_that_make_mistakes(tmp_path: Path) -> None:
    """A zombie that writes, a worker that forgets what had finished, a cancel that isn't recorded: each is found."""
    plan = Plan(
        seed=0,
        db="sqlite",
        slots=3,
        starts=(
            Start(0.0, FROZEN, "quick", 0, "resume", 0.6),
            Start(0.0, KILLED, "quick", 1, "resume", 0.6),
            Start(0.0, CANCELLED, "quick", 2, "mark", 0.6),
        ),
        asks=(Ask(0.5, CANCELLED, 0, "twice"),),
        faults=(Fault(1.0, "freeze_long", 0, 4.5), Fault(1.6, "kill", 1, 0.0)),
    )
    with open_site("sqlite", tmp_path) as site:
        controller = Controller(plan, site, tmp_path, list(MISTAKES))
        controller.run()
    broken = {(run, rule) for rule, run, _ in judge(History(read_notes(controller.file))).broken}
    assert {
        (FROZEN, "one_end"),
        (KILLED, "finished_stays_finished"),
        (CANCELLED, "receipts_are_true"),
    } <= broken
