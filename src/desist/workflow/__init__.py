"""Workflows: steps in an order, streamed live, and stopped at once."""

from desist.workflow.step import Step
from desist.workflow.steps import Steps
from desist.workflow.types import OnError, StepInput, StepOutput
from desist.workflow.workflow import Workflow

__all__ = ["OnError", "Step", "StepInput", "StepOutput", "Steps", "Workflow"]
