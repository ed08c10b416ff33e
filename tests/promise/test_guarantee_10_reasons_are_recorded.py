"""Guarantee 10. Reasons are recorded: source, reason, who asked and the times, in every place that shows a cancel."""

from __future__ import annotations

import json
import logging

import pytest
from cancel_trial import Journal, Mode, Trial, check_record, check_stopped, stop_at

from desist import Agent, Step, Workflow
from desist.cancel import Source
from desist.testing import Gate, ScriptedModel


def test_every_place_shows_the_same_record(mode: Mode, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """B10: receipt, output, terminal event and store hold one record, and the log names it; the agent's run says
    that its parent was cancelled."""
    gate = Gate()
    agent = Agent(ScriptedModel([["text ", gate]]), name="Talker", db=journal)
    trial = Trial(Workflow("W", steps=[Step("talk", agent=agent)], db=journal), mode).start()
    receipt = stop_at(trial, gate.wait_reached, reason="seen enough", by="ann")
    check_stopped(trial, receipt, reason="seen enough", by="ann")
    record = trial.output.cancel
    assert (receipt.requested_at, receipt.settled_at) == (record.requested_at, record.settled_at)
    stored = journal.last(trial.run_id)["cancel"]
    assert (stored["source"], stored["reason"], stored["by"]) == (Source.user.value, "seen enough", "ann")
    assert [stored[f"{name}_at"] for name in ("requested", "delivered", "settled")] == [
        record.requested_at,
        record.delivered_at,
        record.settled_at,
    ]
    if mode.stream:
        assert trial.events[-1].cancel == record and trial.events[-1].reason == "seen enough"
    told = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.INFO]
    [line] = [text for text in told if f"run {trial.run_id} is being cancelled" in text]
    assert "user" in line and "seen enough" in line and "ann" in line
    [child] = {run_id for run_id, _, _ in journal.saved} - {trial.run_id}
    assert journal.last(child)["cancel"]["source"] == Source.parent.value


def test_the_first_reason_stays(mode: Mode, journal: Journal) -> None:
    """B3, B10: a second cancel with another reason and another name changes nothing that is recorded."""
    gate = Gate()
    trial = Trial(Agent(ScriptedModel([["text ", gate]]), name="Talker", db=journal), mode).start()
    gate.wait_reached()
    receipt = trial.cancel(reason="first", by="ann")
    trial.cancel(reason="second", by="bob")
    trial.finish()
    check_stopped(trial, receipt, reason="first", by="ann")
    check_record(trial.output.cancel, reason="first", by="ann")
    assert "second" not in json.dumps(journal.last(trial.run_id))
