"""The questions at the end have a limit: a run that can't be read to its end is found, and doesn't hold them up."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.chaos import audit
from bench.chaos.audit import Audit
from bench.chaos.history import History
from bench.chaos.notes import Notes, read_notes
from bench.chaos.sites import open_site
from bench.chaos.verdict import judge

from desist import Step, Workflow
from desist.db import SqliteDb
from desist.testing import Gate


def test_a_run_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It breaks `can_be_read`, which names it; the run after it is asked about all the same."""
    monkeypatch.setattr(audit, "READING", 0.3)
    gate = Gate()

    async def wait(step_input: object) -> str:
        await gate.wait()
        return "done"

    with open_site("sqlite", tmp_path) as site:
        db = SqliteDb(db_url=site.url)
        workflow = Workflow("W", steps=[Step("one", executor=wait)], db=db)
        stuck = workflow.run("go", run_id="s0-0000-quick", stream=True)
        gate.wait_reached()
        Workflow("V", steps=[Step("one", executor=lambda step_input: "x")], db=db).run("go", run_id="s0-0001-quick")
        db.flush()
        notes = Notes(tmp_path / "notes.jsonl", "controller")
        Audit(site, tmp_path, notes).ask(["s0-0000-quick", "s0-0001-quick"])
        stuck.close()
        db.close()
    history = History(read_notes(tmp_path / "notes.jsonl"))
    assert [words for name, _, words in judge(history).broken if name == "can_be_read"] == [
        "s0-0000-quick: following it doesn't come to an end"
    ]
    assert history.runs["s0-0001-quick"].status == "COMPLETED"
