"""Workflows: steps in an order, streamed live, and stopped at once."""

from desist.workflow.condition import Condition
from desist.workflow.human_review import HumanReview, OnReject, OnTimeout, pause
from desist.workflow.loop import Loop
from desist.workflow.parallel import Parallel
from desist.workflow.router import Router
from desist.workflow.step import Step
from desist.workflow.steps import Steps
from desist.workflow.types import OnError, StepInput, StepOutput, WorkflowExecutionInput
from desist.workflow.workflow import Workflow

__all__ = [
    "Condition",
    "HumanReview",
    "Loop",
    "OnError",
    "OnReject",
    "OnTimeout",
    "Parallel",
    "Router",
    "Step",
    "StepInput",
    "StepOutput",
    "Steps",
    "Workflow",
    "WorkflowExecutionInput",
    "pause",
]
