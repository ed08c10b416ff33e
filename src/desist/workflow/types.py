"""The inputs and outputs of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from desist.exceptions import DesistError
from desist.run.events.base import content_text
from desist.run.records.json_values import to_json_value
from desist.run.records.record import Record, Reviver
from desist.run.records.step_requirement import ErrorRequirement, StepRequirement
from desist.workflow.human_review import HumanReview, OnReject, OnTimeout

__all__ = [
    "MEDIA",
    "ErrorRequirement",
    "HumanReview",
    "OnError",
    "OnReject",
    "OnTimeout",
    "StepInput",
    "StepOutput",
    "StepRequirement",
    "StepType",
    "WorkflowExecutionInput",
    "joined",
    "media_of",
]


class OnError(str, Enum):
    """The effect of a step that has failed, after its retries, on the workflow."""

    fail = "fail"  #: the run ends with `ERROR`
    skip = "skip"  #: the failure is recorded, and the next step runs
    pause = "pause"  #: the run waits for a human: try again, or skip


class StepType(str, Enum):
    """The kind of step that made an output."""

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
    """The output of a step. A function step may return one, to set more than its content."""

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
    duration: float | None = None  #: seconds
    success: bool = True
    error: str | None = None
    stop: bool = False  #: end the workflow after this step
    cancelled: bool = False  #: interrupted: `content` is partial
    is_paused: bool = False  #: it waits for a human, or something in it does
    steps: list[StepOutput] | None = None  #: of a container, the outputs of its steps; of a Loop, of all rounds
    chosen: list[str] | None = None  #: of a Condition, "if", "else" or nothing; of a Router, names of choices
    conflicts: list[str] | None = None  #: of a Parallel: values that branches changed in different ways

    _revivers: ClassVar[Mapping[str, Reviver]]

    @property
    def finished(self) -> bool:
        """Whether the step completed, so that a later run of the workflow can reuse its output."""
        return self.success and not self.cancelled and not self.is_paused

    def end_pause(self) -> None:
        """Mark what waits for a human as cancelled: the run was cancelled."""
        _end_pause(self)


def _end_pause(output: StepOutput) -> None:
    if output.is_paused:
        output.is_paused, output.cancelled = False, True
    for step in output.steps or ():
        _end_pause(step)


def _outputs(values: Any) -> list[StepOutput]:
    if isinstance(values, str):  # an older version replaced deeply nested outputs by text
        values = [values]
    return [_output(value) for value in values]


def _output(value: Any) -> StepOutput:
    if isinstance(value, StepOutput):
        return value
    return StepOutput(content=value) if isinstance(value, str) else StepOutput.from_dict(value)


StepOutput._revivers = {"steps": _outputs}


@dataclass(kw_only=True)
class WorkflowExecutionInput:
    """The input of a workflow whose `steps` is a function."""

    input: Any | None = None
    additional_data: dict[str, Any] | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    workflow_session: Any = None  #: the session before this run, with the attributes of a `WorkflowSession`

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return the inputs and answers of the session's last runs, the oldest first; None for all."""
        return self.workflow_session.get_workflow_history(num_runs) if self.workflow_session is not None else []

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the same as text for a model, or None if there are no such runs."""
        session = self.workflow_session
        return session.get_workflow_history_context(num_runs) if session is not None else None

    def get_input_as_string(self) -> str | None:
        """Return the input as text, or None without one."""
        return None if self.input is None else content_text(self.input)


@dataclass(kw_only=True)
class StepInput(WorkflowExecutionInput):
    """The input of a step."""

    previous_step_content: Any | None = None
    previous_step_outputs: Mapping[str, StepOutput] = field(default_factory=dict)  #: by step name, in order

    def get_step_output(self, name: str) -> StepOutput | None:
        """Return the output of the step of this name, also inside a container, or None. Of several, the last one."""
        found = self.previous_step_outputs.get(name)
        return found or _inside(self.previous_step_outputs.values(), name)

    def get_step_content(self, name: str) -> Any | None:
        """Return the content of the step of this name, or None; of a Parallel, a dict by branch name."""
        output = self.get_step_output(name)
        return _content(output) if output else None

    def get_last_step_content(self) -> Any | None:
        """Return the content of the previous step, or None; of a Parallel, the joined contents of its branches."""
        last = next(reversed(list(self.previous_step_outputs)), None)
        return None if last is None else self.previous_step_outputs[last].content

    def get_all_previous_content(self) -> str:
        """Return the contents of all previous steps, each under its name."""
        return joined((name, output.content) for name, output in self.previous_step_outputs.items()) or ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, without None fields and the session."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "workflow_session"}
        return {name: to_json_value(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepInput:
        """Build an input from a dict such as `to_dict()` returns. Unknown keys are ignored.

        Raises:
            DesistError: the outputs of earlier steps can't be read.
        """
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        earlier = known.get("previous_step_outputs") or {}
        if not isinstance(earlier, Mapping):
            raise DesistError(f"StepInput.previous_step_outputs can't be read from {earlier!r:.200}: give a dict")
        known["previous_step_outputs"] = dict(zip(earlier, _outputs(earlier.values()), strict=True))
        return cls(**known)


#: The fields of inputs and outputs that hold media.
MEDIA = ("images", "videos", "audio", "files")


def media_of(value: Any) -> dict[str, Any]:
    """Return the media of an input or output, by field name."""
    return {kind: getattr(value, kind) for kind in MEDIA}


def joined(contents: Iterable[tuple[str | None, Any]]) -> str | None:
    """Return contents as one text, each under its name, without those that are None. None if nothing is left."""
    texts = [f"=== {name} ===\n{content_text(content)}" for name, content in contents if content is not None]
    return "\n\n".join(texts) if texts else None


def _content(output: StepOutput) -> Any:
    if output.step_type == StepType.PARALLEL.value and output.steps is not None:
        return {branch.step_name: _content(branch) for branch in output.steps}
    return output.content


def _inside(outputs: Iterable[StepOutput], name: str) -> StepOutput | None:
    for output in reversed(list(outputs)):
        for child in reversed(output.steps or ()):
            found = child if child.step_name == name else _inside([child], name)
            if found is not None:
                return found
    return None
