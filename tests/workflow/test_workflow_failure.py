"""Steps that fail: tried again, skipped or the end of the run, in each container; and that a cancel is none of it."""

from __future__ import annotations

from typing import Any

import pytest
from cancel_trial import PATIENCE, Journal, Mode, Trial, check_stopped
from event_grammar import check_grammar

from desist import Condition, Loop, Parallel, Router, Step, StepInput, Steps, Workflow
from desist.exceptions import ConfigurationError, StepError
from desist.testing import Gate

CONTAINERS: dict[str, Any] = {
    "steps": lambda step: Steps("box", steps=[step]),
    "parallel": lambda step: Parallel("box", step),
    "parallel of two": lambda step: Parallel("box", Step("other", executor=lambda given: 1), step, siblings="spare"),
    "loop": lambda step: Loop([step], "box", max_iterations=2),
    "if": lambda step: Condition([step], name="box"),
    "router": lambda step: Router([step], lambda given: "bad", "box"),
    "workflow": lambda step: Workflow("box", steps=[step]),
}


def _failing(tries: list[int], **options: Any) -> Step:
    def bad(given: StepInput) -> None:
        tries.append(1)
        raise ValueError("it broke")

    return Step("bad", executor=bad, **options)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("how", ["default", "skip_on_failure", "fail"])
def test_a_failing_step_in_each_container(kind: str, how: str, mode: Mode, journal: Journal) -> None:
    """It is tried max_retries times again; then recorded as failed and the workflow goes on, or it fails with it: each
    container around tells an error. Nobody around tries the same again."""
    options = {"default": {}, "skip_on_failure": {"skip_on_failure": True}, "fail": {"on_error": "fail"}}[how]
    tries, after = [], []
    box = CONTAINERS[kind](_failing(tries, max_retries=2, **options))
    workflow = Workflow("W", steps=[Step("box", workflow=box, on_error="fail") if kind == "workflow" else box,
                                    lambda given: after.append(1)], db=journal)  # fmt: skip
    trial = Trial(workflow, mode).start().finish()
    assert trial.error is None
    stored = journal.last(trial.run_id)
    failed = how == "fail"
    assert stored["status"] == ("ERROR" if failed else "COMPLETED") and after == ([] if failed else [1])
    assert len(tries) == (3 if failed or kind != "loop" else 6)
    output = stored["step_results"][0]
    assert output["step_name"] == "box"
    [inner, *_] = [step for step in output["steps"] if step["step_name"] == "bad"]
    assert (inner["success"], inner["error"], inner["cancelled"]) == (False, "it broke", False)
    if kind != "workflow":
        assert not output["success"]
    if failed:
        assert "step 'bad': it broke" in stored["error"] and "step 'bad': it broke" in output["error"]
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        told = [event.step_name for event in trial.events if event.event == "StepError"]
        assert told == (["bad", "box"] if failed else ["bad"] * (2 if kind == "loop" else 1))
        again = [event for event in trial.events if event.event == "StepProgress"]
        assert [event.attempt for event in again] == [2, 3] * (2 if kind == "loop" and not failed else 1)
        assert again[0].content == "attempt 1 of 3 failed: it broke"


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_cancel_is_no_failure(kind: str, mode: Mode, journal: Journal) -> None:
    """B11: whatever on_error and max_retries say, a cancel is neither tried again nor skipped."""
    gate, tries, never = Gate(), [], []

    def wait(given: StepInput) -> None:
        tries.append(1)
        gate.wait_blocking()

    box = CONTAINERS[kind](Step("bad", executor=wait, max_retries=5, on_error="skip"))
    trial = Trial(Workflow("W", steps=[box, never.append], db=journal), mode).start()
    gate.wait_reached()
    receipt = trial.cancel()
    assert receipt.wait(PATIENCE)
    trial.finish()
    check_stopped(trial, receipt)
    assert tries == [1] and never == []
    output = journal.last(trial.run_id)["step_results"][0]
    assert output["cancelled"] and output.get("error") is None and output["steps"][-1]["cancelled"]
    if mode.stream:
        check_grammar(trial.events, trial.run_id)
        assert not [event for event in trial.events if event.event in ("StepError", "StepProgress")]


def test_what_isnt_worth_another_try(mode: Mode, journal: Journal) -> None:
    """An error that says `retryable = False` is final at once."""
    tries: list[int] = []

    def bad(given: StepInput) -> None:
        tries.append(1)
        error = StepError("never")
        error.retryable = False
        raise error

    Trial(Workflow("W", steps=[Step("bad", executor=bad)], db=journal), mode).start().finish()
    assert tries == [1]


def test_options_that_contradict() -> None:
    """`skip_on_failure` with on_error="fail" is refused, as is an unknown on_error."""
    with pytest.raises(ConfigurationError, match="step 's' has skip_on_failure=True and on_error='fail'"):
        Step("s", executor=print, skip_on_failure=True, on_error="fail")
    with pytest.raises(ConfigurationError, match="on_error='stop' of step 's' isn't known"):
        Step("s", executor=print, on_error="stop")
