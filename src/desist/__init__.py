"""desist: agent workflows you can stop.

The names below are imported when they are first used, so that `import desist` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.agent.agent import Agent
    from desist.cancel.receipt import CancelReceipt
    from desist.cancel.shield import shield
    from desist.cancel.token import CancelToken
    from desist.exceptions import DesistError, RunCancelled
    from desist.models.openai import OpenAIChat
    from desist.run.answer import aanswer, answer, pending
    from desist.run.cancel import cancel_run
    from desist.run.events.base import RunStatus
    from desist.run.observability.live import cancel_all, quarantine, runs
    from desist.run.options.budget import Budget
    from desist.run.options.context import RunContext
    from desist.run.requirement import AnswerReceipt
    from desist.tools import tool
    from desist.workflow.condition import Condition
    from desist.workflow.loop import Loop
    from desist.workflow.parallel import Parallel
    from desist.workflow.router import Router
    from desist.workflow.step import Step
    from desist.workflow.steps import Steps
    from desist.workflow.types import StepInput, StepOutput
    from desist.workflow.workflow import Workflow

__version__ = "0.1.0"

_MODULES = {
    "Agent": "desist.agent.agent",
    "AnswerReceipt": "desist.run.requirement",
    "Budget": "desist.run.options.budget",
    "CancelReceipt": "desist.cancel.receipt",
    "CancelToken": "desist.cancel.token",
    "Condition": "desist.workflow.condition",
    "DesistError": "desist.exceptions",
    "Loop": "desist.workflow.loop",
    "OpenAIChat": "desist.models.openai",
    "Parallel": "desist.workflow.parallel",
    "Router": "desist.workflow.router",
    "RunCancelled": "desist.exceptions",
    "RunContext": "desist.run.options.context",
    "RunStatus": "desist.run.events.base",
    "Step": "desist.workflow.step",
    "StepInput": "desist.workflow.types",
    "StepOutput": "desist.workflow.types",
    "Steps": "desist.workflow.steps",
    "Workflow": "desist.workflow.workflow",
    "aanswer": "desist.run.answer",
    "answer": "desist.run.answer",
    "cancel_all": "desist.run.observability.live",
    "cancel_run": "desist.run.cancel",
    "pending": "desist.run.answer",
    "quarantine": "desist.run.observability.live",
    "runs": "desist.run.observability.live",
    "shield": "desist.cancel.shield",
    "tool": "desist.tools",
}

__all__ = [
    "Agent",
    "AnswerReceipt",
    "Budget",
    "CancelReceipt",
    "CancelToken",
    "Condition",
    "DesistError",
    "Loop",
    "OpenAIChat",
    "Parallel",
    "Router",
    "RunCancelled",
    "RunContext",
    "RunStatus",
    "Step",
    "StepInput",
    "StepOutput",
    "Steps",
    "Workflow",
    "aanswer",
    "answer",
    "cancel_all",
    "cancel_run",
    "pending",
    "quarantine",
    "runs",
    "shield",
    "tool",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
