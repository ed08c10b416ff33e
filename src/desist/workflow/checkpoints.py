"""Storing started and finished steps during the run, so that they survive a crash.

The start is stored of containers and of steps with a child run: finished work inside them can be reused later, and a
tool call that was made is not made again.
"""

from __future__ import annotations

from typing import Any

from desist.run.execution.run import Run
from desist.workflow.step_state import StepState
from desist.workflow.types import StepOutput

__all__ = ["checkpoint_started", "checkpoint_step"]


def checkpoint_step(run: Run, output: StepOutput, parent: StepState) -> None:
    """Store the output of a step, and its position."""
    run.checkpoint("step", output, _encode_position(parent))


def checkpoint_started(run: Run, progress: StepState) -> None:
    """Store that a step has begun, with the id of its child run, if it has one."""
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
    run.checkpoint("begun", made, _encode_position(progress.parent) if progress.parent is not None else None)


def _encode_position(parent: StepState) -> dict[str, Any] | None:
    return {"step_id": parent.common["step_id"]} if "step_id" in parent.common else None
