"""A workflow whose `steps` is one function. Its yielded values are streamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from desist.run.options.idempotency import set_work_key
from desist.workflow.execution import WorkflowExecution
from desist.workflow.step_function import StepFunction, call_function
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput, WorkflowExecutionInput, media_of

__all__ = ["WorkflowFunction"]


class WorkflowFunction:
    """The function. Agents and workflows that it runs become children of the workflow's run.

    Parameters:
        function: `f(workflow, execution_input)`, sync or async, plain or a generator; either may be left out. It
            may ask for `session_state`, `run_context`, `dependencies` and `cancel_token` by name.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.call = StepFunction(function, what="workflow function")

    async def run(
        self, workflow: Any, step_input: StepInput, flow: WorkflowExecution, progress: StepState
    ) -> StepOutput:
        """Call the function; return its return value, or the text that it yielded."""
        execution_input = WorkflowExecutionInput(
            input=step_input.input,
            additional_data=step_input.additional_data,
            **media_of(step_input),
        )
        arguments = self.call.arguments(flow, workflow=workflow, execution_input=execution_input)
        args: tuple[Any, ...] = ()
        if not {"workflow", "execution_input"} & arguments.keys():
            args = (workflow, execution_input)[max(0, 2 - len(self.call.wanted - arguments.keys())) :]
        set_work_key(f"{flow.run.key}:0:1")
        return await call_function(self.call, args, arguments, flow, progress)
