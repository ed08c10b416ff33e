"""Guarantee 9. Any time: a cancel before the start, of an id that nobody knows yet, or never will."""

from __future__ import annotations

import json
from types import SimpleNamespace

from cancel_trial import (
    Journal,
    Mode,
    Trial,
    check_record,
)

from desist import Agent, Workflow
from desist.cancel import CancelReason, Outcome, RunStatus, Source
from desist.cancel.registry import RunRegistry, registry
from desist.run.cancel import cancel
from desist.run.events.base import CancellationStage
from desist.run.events.codec import to_json
from desist.testing import ScriptedModel


def test_a_cancel_before_the_start(mode: Mode, journal: Journal) -> None:
    """B5: a run whose id was cancelled before starts cancelled: no step, no request; a later one isn't harmed."""
    model, steps = ScriptedModel(["said"], repeat=True), []
    work = [lambda given: steps.append(1), Agent(model, name="A")]
    workflow = Workflow("W", steps=work, db=journal)
    trial = Trial(workflow, mode)
    receipt = workflow.cancel(trial.run_id, reason="too early", by="me")
    assert not receipt and (receipt.outcome, receipt.status) == (Outcome.unknown, None)
    assert not receipt.wait(5)
    trial.start().finish()
    assert trial.error is None and trial.output.status is RunStatus.cancelled
    check_record(trial.output.cancel, reason="too early", by="me")
    assert trial.output.cancellation_stage is CancellationStage.pending
    assert steps == [] and model.requests == [] and trial.output.step_results == []
    assert journal.last(trial.run_id) == json.loads(to_json(trial.output))
    if mode.stream:
        assert [event.event for event in trial.events] == ["WorkflowCancelled"]
        assert trial.stored_when_shown == journal.last(trial.run_id)
    again = Trial(workflow, mode)
    again.run_id = trial.run_id
    assert again.start().finish().output.status is RunStatus.completed and len(model.requests) == 1


def test_unknown_ids_are_bounded() -> None:
    """B5: a hundred thousand unknown ids don't fill the memory, and answer quickly."""
    for number in range(100_000):
        receipt = cancel(f"nobody-{number}")
        assert receipt.outcome is Outcome.unknown
    assert registry.pending_cancels <= 10_000
    workflow = Workflow("W", steps=[lambda given: "fine"])
    assert workflow.run("go", run_id="nobody-3").status is RunStatus.completed


def test_an_intent_expires() -> None:
    """B5: a cancel of an unknown id doesn't harm a run that starts after its time to live."""
    now = [0.0]
    records = RunRegistry(intent_ttl=60, clock=lambda: now[0])
    reason = CancelReason(source=Source.user)
    records.cancel("early", reason)
    records.cancel("late", reason)
    now[0] = 59.9
    assert records.add(SimpleNamespace(run_id="early")) is reason  # type: ignore[arg-type]
    now[0] = 60.1
    assert records.add(SimpleNamespace(run_id="late")) is None  # type: ignore[arg-type]
