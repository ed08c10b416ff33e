"""The events of a step. The output of a step is a `StepOutput`, a class of `desist.workflow`, and `Any` here."""

from __future__ import annotations

from typing import Any

from desist.run.events.registry import workflow_event
from desist.run.events.workflow_base import BaseStepEvent, WorkflowRunEvent

__all__ = [
    "StepCancelledEvent",
    "StepCompletedEvent",
    "StepContinuedEvent",
    "StepErrorEvent",
    "StepExecutorContinuedEvent",
    "StepExecutorPausedEvent",
    "StepOutputEvent",
    "StepOutputReviewEvent",
    "StepPausedEvent",
    "StepProgressEvent",
    "StepStartedEvent",
]


@workflow_event
class StepStartedEvent(BaseStepEvent):
    """A step began."""

    event: str = WorkflowRunEvent.step_started.value


@workflow_event
class StepCompletedEvent(BaseStepEvent):
    """A step completed; `step_response` is its `StepOutput`."""

    event: str = WorkflowRunEvent.step_completed.value
    content: Any | None = None
    content_type: str = "str"
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    response_audio: Any | None = None
    step_response: Any | None = None


@workflow_event
class StepCancelledEvent(BaseStepEvent):
    """A step was interrupted; `content` is partial. A later event is the end of its run."""

    event: str = WorkflowRunEvent.step_cancelled.value
    content: Any | None = None
    reason: str | None = None
    step_response: Any | None = None


@workflow_event
class StepErrorEvent(BaseStepEvent):
    """A step failed; the workflow may continue."""

    event: str = WorkflowRunEvent.step_error.value
    error: str | None = None


@workflow_event
class StepProgressEvent(BaseStepEvent):
    """A step reported its progress."""

    event: str = WorkflowRunEvent.step_progress.value
    attempt: int = 1
    content: str | None = None
    data: dict[str, Any] | None = None


@workflow_event
class StepOutputEvent(BaseStepEvent):
    """The output of a function step: a `StepOutput`, with its fields as properties."""

    event: str = WorkflowRunEvent.step_output.value
    step_output: Any | None = None

    @property
    def content(self) -> Any:
        """The content of `step_output`, None without one."""
        return getattr(self.step_output, "content", None)

    @property
    def success(self) -> bool:
        """Whether the step succeeded; True without an output."""
        return bool(getattr(self.step_output, "success", True))

    @property
    def error(self) -> str | None:
        """The step's error."""
        return getattr(self.step_output, "error", None)

    @property
    def stop(self) -> bool:
        """Whether the step asked the workflow to stop early."""
        return bool(getattr(self.step_output, "stop", False))

    @property
    def images(self) -> list[Any] | None:
        """The images of `step_output`."""
        return getattr(self.step_output, "images", None)

    @property
    def videos(self) -> list[Any] | None:
        """The videos of `step_output`."""
        return getattr(self.step_output, "videos", None)

    @property
    def audio(self) -> list[Any] | None:
        """The audio of `step_output`."""
        return getattr(self.step_output, "audio", None)

    @property
    def files(self) -> list[Any] | None:
        """The files of `step_output`."""
        return getattr(self.step_output, "files", None)


@workflow_event
class StepPausedEvent(BaseStepEvent):
    """A step waits for a human."""

    event: str = WorkflowRunEvent.step_paused.value
    requires_confirmation: bool = False
    confirmation_message: str | None = None
    requires_user_input: bool = False
    user_input_message: str | None = None
    user_input_schema: list[dict[str, Any]] | None = None


@workflow_event
class StepContinuedEvent(BaseStepEvent):
    """A paused step continues."""

    event: str = WorkflowRunEvent.step_continued.value


@workflow_event
class StepExecutorPausedEvent(BaseStepEvent):
    """The agent or team of a step waits for a human."""

    event: str = WorkflowRunEvent.step_executor_paused.value
    executor_id: str | None = None
    executor_name: str | None = None
    executor_run_id: str | None = None
    executor_type: str | None = None
    executor_requirements: list[Any] | None = None


@workflow_event
class StepExecutorContinuedEvent(BaseStepEvent):
    """The agent or team of a step continues."""

    event: str = WorkflowRunEvent.step_executor_continued.value
    executor_id: str | None = None
    executor_name: str | None = None
    executor_run_id: str | None = None
    executor_type: str | None = None


@workflow_event
class StepOutputReviewEvent(BaseStepEvent):
    """A step's output waits for a human's review."""

    event: str = WorkflowRunEvent.step_output_review.value
    output_review_message: str | None = None
    requires_output_review: bool = True
