"""Recording steps while the run goes on, so that a crash loses none that has ended, and forgets none that has begun.

Called where steps begin and end. What has begun is recorded of containers and of steps whose work is a run: what had
finished in those can be taken over later, and a tool that was called isn't called again.
"""

from __future__ import annotations

from typing import Any

from desist.run.execution.run import Run
from desist.workflow.step_state import StepState
from desist.workflow.types import StepOutput

__all__ = ["checkpoint_started", "checkpoint_step"]


def checkpoint_step(run: Run, output: StepOutput, above: StepState) -> None:
    """Record what a step made, and which container it stands in."""
    run.checkpoint("step", output, _encode_position(above))


def checkpoint_started(run: Run, progress: StepState) -> None:
    """Record that a step has begun; the run that does its work is known by now, if there is one."""
    made = StepOutput(
        step_name=progress.common["step_name"],
        step_id=progress.common["step_id"],
        step_type=progress.step_type,
        executor_type=progress.executor_type,
        executor_name=progress.executor_name,
        step_run_id=getattr(progress.child_output, "run_id", None),
        success=False,
        chosen=progress.chosen,
    )
    run.checkpoint("begun", made, _encode_position(progress.above) if progress.above is not None else None)


def _encode_position(above: StepState) -> dict[str, Any] | None:
    return {"step_id": above.common["step_id"]} if "step_id" in above.common else None
