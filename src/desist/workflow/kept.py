"""Recording a step that has ended, while the run goes on: a crash loses none. Called where steps end."""

from __future__ import annotations

from desist.run.driver import Run
from desist.workflow.progress import Progress
from desist.workflow.types import StepOutput

__all__ = ["keep_step"]

_NAMED = ("step_id", "step_name", "parent_step_id", "nested_depth")


def keep_step(run: Run, output: StepOutput, above: Progress) -> None:
    """Record what a step made, and which container it stands in."""
    around = above.common
    at = {name: around.get(name) for name in _NAMED} | {"step_type": above.step_type} if "step_id" in around else None
    run.keep("step", output, at)
