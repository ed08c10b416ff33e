"""A worker is killed in each named phase of a run's life: exactly there, and every rule is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.chaos.controller import Controller
from bench.chaos.history import History
from bench.chaos.notes import read_notes
from bench.chaos.phases import PHASES
from bench.chaos.plan import Fault, Plan, Start
from bench.chaos.sites import open_site
from bench.chaos.verdict import judge
from postgres_databases import missing

from desist.testing import LocalPostgres

#: What is stored in the end if that phase is the last of the run's worker.
STORED = {
    "mark": dict.fromkeys(PHASES, "ERROR") | {"before_claim": None, "after_store": "COMPLETED"},
    "resume": dict.fromkeys(PHASES, "COMPLETED") | {"before_claim": None},
}


@pytest.mark.parametrize(("db", "on_crash"), [("sqlite", "mark"), ("postgres", "resume")])
def test_killed_in_each_phase(db: str, on_crash: str, tmp_path: Path) -> None:
    """No record before the claim; an end that was committed stays; in all phases between, others end or resume it."""
    if db == "postgres" and LocalPostgres.binaries() is None:
        missing("postgres", "Postgres isn't installed (Debian: postgresql)")
    runs = {phase: f"s0-000{number}-quick" for number, phase in enumerate(PHASES)}
    plan = Plan(
        seed=0,
        db=db,
        slots=len(PHASES),  # a worker for each
        starts=tuple(Start(0.1, run_id, "quick", slot, on_crash, 0.05) for slot, run_id in enumerate(runs.values())),
        asks=(),
        faults=tuple(Fault(0.0, f"kill_{phase}", slot, 60.0) for slot, phase in enumerate(PHASES)),
    )
    with open_site(db, tmp_path) as site:
        controller = Controller(plan, site, tmp_path)
        controller.run()
    history = History(read_notes(controller.file))
    verdict = judge(history)
    assert {note["phase"]: note["run"] for note in history.of("dying")} == runs
    assert (verdict.broken, verdict.excused.found) == ([], [])
    assert {phase: history.runs[run_id].status for phase, run_id in runs.items()} == STORED[on_crash]
    resumed = {note["run"] for note in history.of("resumed")}
    between = {run_id for phase, run_id in runs.items() if phase not in ("before_claim", "after_store")}
    assert resumed == (between if on_crash == "resume" else set())
