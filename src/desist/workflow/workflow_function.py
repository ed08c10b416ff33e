"""A workflow whose `steps` is a function: it does everything itself, and what it yields is streamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.run.options.idempotency import enter_work
from desist.workflow.execution import Flow
from desist.workflow.step_function import FunctionCall, call_function
from desist.workflow.step_state import Progress
from desist.workflow.types import StepInput, StepOutput, WorkflowExecutionInput

if TYPE_CHECKING:
    from desist.workflow.workflow import Workflow

__all__ = ["Program"]


class Program:
    """The function. Agents and workflows that it runs are children of the workflow's run.

    Parameters:
        function: `f(workflow, execution_input)`, sync or async, plain or a generator; it may leave one out, and ask
            for `session_state`, `run_context`, `dependencies` and `cancel_token` by name.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.call = FunctionCall(function, what="workflow function")

    async def run(self, workflow: Workflow, given: StepInput, flow: Flow, progress: Progress) -> StepOutput:
        """Call it; return what it returned, or the text that it yielded."""
        asked = WorkflowExecutionInput(
            input=given.input,
            additional_data=given.additional_data,
            images=given.images,
            videos=given.videos,
            audio=given.audio,
            files=given.files,
        )
        arguments = self.call.arguments(flow, workflow=workflow, execution_input=asked)
        args: tuple[Any, ...] = ()
        if not {"workflow", "execution_input"} & arguments.keys():
            args = (workflow, asked)[max(0, 2 - len(self.call.wanted - arguments.keys())) :]
        enter_work(f"{flow.run.key}:0:1")
        return await call_function(self.call, args, arguments, flow, progress)
