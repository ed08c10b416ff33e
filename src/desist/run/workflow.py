"""Public import path of a workflow's events and output.

The classes are defined in `events.workflow_base`, `events.workflow`, `events.steps`, `events.containers` and
`outputs.workflow`; `WorkflowRunOutputEvent` is defined here.
"""

from typing import TypeAlias

from desist.run.events import containers, steps, workflow, workflow_base
from desist.run.events.base import CancelRecord, RunStatus
from desist.run.events.containers import *  # noqa: F403
from desist.run.events.steps import *  # noqa: F403
from desist.run.events.workflow import *  # noqa: F403
from desist.run.events.workflow_base import *  # noqa: F403
from desist.run.events.workflow_base import BaseWorkflowRunOutputEvent
from desist.run.outputs.workflow import WorkflowMetrics, WorkflowRunOutput

#: Any event of the workflow itself. Supports `isinstance`. Events of the workflow's agents are `RunOutputEvent`s.
WorkflowRunOutputEvent: TypeAlias = BaseWorkflowRunOutputEvent

__all__ = ["CancelRecord", "RunStatus", "WorkflowMetrics", "WorkflowRunOutput", "WorkflowRunOutputEvent"]
__all__ += containers.__all__
__all__ += steps.__all__
__all__ += workflow.__all__
__all__ += workflow_base.__all__
