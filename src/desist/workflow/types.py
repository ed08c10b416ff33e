"""What goes into a step and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from desist.run.base import content_text
from desist.run.record import Record, Reviver

__all__ = ["OnError", "StepInput", "StepOutput", "StepType"]


class OnError(str, Enum):
    """What a workflow does when a step has failed for good."""

    fail = "fail"  #: the run ends with `ERROR`
    skip = "skip"  #: the failure is recorded, and the next step runs


class StepType(str, Enum):
    """What kind of step made an output."""

    FUNCTION = "Function"
    STEP = "Step"
    STEPS = "Steps"
    LOOP = "Loop"
    PARALLEL = "Parallel"
    CONDITION = "Condition"
    ROUTER = "Router"
    WORKFLOW = "Workflow"


@dataclass(kw_only=True, eq=False, repr=False)
class StepOutput(Record):
    """What a step made. Function steps may return one, to say more than its content."""

    step_name: str | None = None
    step_id: str | None = None
    step_type: str | None = None
    executor_type: str | None = None
    executor_name: str | None = None
    content: Any | None = None
    step_run_id: str | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    metrics: Any | None = None
    success: bool = True
    error: str | None = None
    stop: bool = False  #: end the workflow after this step
    cancelled: bool = False  #: interrupted: `content` is what it had said by then
    steps: list[StepOutput] | None = None  #: of a container, what its steps made

    _revivers: ClassVar[Mapping[str, Reviver]]


def _outputs(values: Any) -> list[StepOutput]:
    return [value if isinstance(value, StepOutput) else StepOutput.from_dict(value) for value in values]


StepOutput._revivers = {"steps": _outputs}


@dataclass(kw_only=True)
class StepInput:
    """What a step works on."""

    input: Any | None = None  #: what the workflow was asked
    previous_step_content: Any | None = None
    previous_step_outputs: dict[str, StepOutput] = field(default_factory=dict)  #: by step name, in their order
    additional_data: dict[str, Any] | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    workflow_session: Any = None  #: the session as it was before this run: what a `WorkflowSession` has

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return what was asked and answered in the session's last runs, the oldest first; None for all."""
        return self.workflow_session.get_workflow_history(num_runs) if self.workflow_session is not None else []

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the same as text for a model, or None if there is nothing to tell."""
        session = self.workflow_session
        return session.get_workflow_history_context(num_runs) if session is not None else None

    def get_input_as_string(self) -> str | None:
        """Return the workflow's input as text, or None without one."""
        return None if self.input is None else content_text(self.input)

    def get_step_output(self, name: str) -> StepOutput | None:
        """Return what the step of this name made, also inside a container, or None."""
        return _find(self.previous_step_outputs.values(), name)

    def get_step_content(self, name: str) -> Any | None:
        """Return the content that the step of this name made, or None."""
        output = self.get_step_output(name)
        return output.content if output else None

    def get_last_step_content(self) -> Any | None:
        """Return the content of the step before this one, or None."""
        outputs = list(self.previous_step_outputs.values())
        return outputs[-1].content if outputs else None

    def get_all_previous_content(self) -> str:
        """Return the contents of all steps before, each under its name."""
        told = [
            f"=== {name} ===\n{content_text(output.content)}"
            for name, output in self.previous_step_outputs.items()
            if output.content is not None
        ]
        return "\n\n".join(told)


def _find(outputs: Any, name: str) -> StepOutput | None:
    for output in outputs:
        if output.step_name == name:
            found: StepOutput = output
            return found
        inner = _find(output.steps or (), name)
        if inner is not None:
            return inner
    return None
