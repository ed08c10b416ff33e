"""Waiting for a human before a step runs, and after: asks, and turns the answer into what happens next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from desist.cancel.reason import CancelReason, Source
from desist.run.events.containers import RouterPausedEvent
from desist.run.events.steps import StepContinuedEvent, StepOutputReviewEvent, StepPausedEvent
from desist.run.events.workflow_base import BaseStepEvent
from desist.run.records.step_requirement import StepRequirement
from desist.workflow.execution import WorkflowExecution
from desist.workflow.human_review import HumanReview, OnReject
from desist.workflow.step_pauses import Resolved
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput

__all__ = ["Passed", "Retry", "pass_gate", "review_output", "skipped", "with_feedback", "with_user_input"]


@dataclass(frozen=True, slots=True)
class Passed:
    """What a human has decided before a step."""

    decision: Literal["run", "skip", "else"] = "run"
    values: dict[str, Any] = field(default_factory=dict)
    choices: list[str] | None = None  #: of a Router


@dataclass(frozen=True, slots=True)
class Retry:
    """A step that runs again, because a human has rejected its output."""

    feedback: str | None
    count: int  #: how often its output was rejected


def pass_gate(
    review: HumanReview, flow: WorkflowExecution, progress: StepState, choices: list[str] | None = None
) -> Passed:
    """Return what a human has decided before a step runs. Asks, and raises `PauseRun`, if there is no answer yet.

    Parameters:
        choices: of a Router: the names to choose from.
    """
    if not (review.requires_confirmation or review.requires_user_input):
        return Passed()
    requirement = StepRequirement(
        requires_confirmation=review.requires_confirmation and not review.requires_user_input,
        confirmation_message=review.confirmation_message,
        on_reject=OnReject(review.on_reject).value,
        requires_user_input=review.requires_user_input and choices is None,
        user_input_message=review.user_input_message,
        user_input_schema=review.user_input_schema,
        requires_route_selection=review.requires_user_input and choices is not None,
        available_choices=choices if review.requires_user_input else None,
        allow_multiple_selections=review.allow_multiple_selections,
        on_timeout=getattr(review.on_timeout, "value", review.on_timeout),
        max_retries=review.max_retries,
    )
    resolved = flow.pauses.take(progress, requirement.kind)
    if resolved is None:
        flow.pauses.ask(flow.run, progress, requirement, _paused_event(progress, requirement), review)
    flow.run.emit(StepContinuedEvent(**progress.common))
    if resolved.decision == "reject":
        return Passed(_rejected(review, flow, progress, resolved))
    if resolved.decision == "skip":
        return Passed("skip")
    return Passed("run", resolved.values, resolved.values.get("choices"))


def _paused_event(progress: StepState, requirement: StepRequirement) -> BaseStepEvent:
    if requirement.requires_route_selection:
        return RouterPausedEvent(
            **progress.common,
            available_choices=list(requirement.available_choices or ()),
            user_input_message=requirement.user_input_message,
            allow_multiple_selections=requirement.allow_multiple_selections,
        )
    return StepPausedEvent(
        **progress.common,
        requires_confirmation=requirement.requires_confirmation,
        confirmation_message=requirement.confirmation_message,
        requires_user_input=requirement.requires_user_input,
        user_input_message=requirement.user_input_message,
        user_input_schema=requirement.user_input_schema,
    )


def _rejected(
    review: HumanReview, flow: WorkflowExecution, progress: StepState, resolved: Resolved
) -> Literal["skip", "else"]:
    """Return what follows a rejection; or cancel the run, which raises."""
    if review.on_reject is OnReject.skip:
        return "skip"
    if review.on_reject is OnReject.else_branch:
        return "else"
    _cancel(flow, progress, resolved)
    return "skip"


def _cancel(flow: WorkflowExecution, progress: StepState, resolved: Resolved) -> None:
    """Cancel the run, because a human has rejected a step.

    Raises:
        RunCancelled: always.
    """
    name = progress.common.get("step_name")
    text = (resolved.stored.answer or {}).get("note") or f"step {name!r} was rejected"
    flow.pauses.rejected = True
    flow.run.cancel(CancelReason(source=Source.user, text=text, by=resolved.stored.by))
    flow.check()


def review_output(
    review: HumanReview, flow: WorkflowExecution, progress: StepState, made: StepOutput | None, rejected: int = 0
) -> StepOutput | Retry | Literal["skip"] | None:
    """Return the output of a step as a human has reviewed it, or what follows a rejection; None: there is no answer.

    Parameters:
        made: the output to review; None: only look whether there is an answer. Asks, and raises `PauseRun`, if the
            output needs a review.
        rejected: how often an output of this step was rejected.
    """
    wanted = review.requires_output_review
    if not wanted:
        return made
    if made is not None:
        if callable(wanted) and not wanted(made):
            return made
        requirement = StepRequirement(
            requires_output_review=True,
            output_review_message=review.output_review_message,
            is_post_execution=True,
            on_reject=OnReject(review.on_reject).value,
            on_timeout=getattr(review.on_timeout, "value", review.on_timeout),
            retry_count=rejected,
            max_retries=review.max_retries,
            step_output=made,
        )
        event = StepOutputReviewEvent(**progress.common, output_review_message=review.output_review_message)
        flow.pauses.ask(flow.run, progress, requirement, event, review)
    resolved = flow.pauses.take(progress, "output_review")
    if resolved is None:
        return None
    flow.run.emit(StepContinuedEvent(**progress.common))
    if resolved.decision == "skip":
        return "skip"
    if resolved.decision == "reject":
        count = resolved.requirement.retry_count + 1
        if review.on_reject is OnReject.retry and count <= review.max_retries:
            return Retry((resolved.stored.answer or {}).get("note"), count)
        if review.on_reject is OnReject.skip:
            return "skip"
        _cancel(flow, progress, resolved)
    kept = resolved.requirement.step_output
    output = kept if isinstance(kept, StepOutput) else StepOutput.from_dict(kept or {})
    if resolved.decision == "edit":
        output.content = (resolved.stored.answer or {})["arguments"]["output"]
    return output


def skipped(step_input: StepInput) -> StepOutput:
    """Return the output of a step that a human has skipped: the content of the step before it."""
    return StepOutput(content=step_input.previous_step_content)


def with_user_input(step_input: StepInput, values: dict[str, Any]) -> StepInput:
    """Return the input with the values of a human, as `additional_data["user_input"]`."""
    return replace(step_input, additional_data={**(step_input.additional_data or {}), "user_input": values})


def with_feedback(step_input: StepInput, feedback: str | None) -> StepInput:
    """Return the input with the feedback of a human, as `additional_data["rejection_feedback"]`."""
    return replace(step_input, additional_data={**(step_input.additional_data or {}), "rejection_feedback": feedback})
