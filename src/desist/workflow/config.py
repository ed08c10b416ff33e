"""`WorkflowConfig`: the settings of a workflow, as one run uses them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from desist.run.storage.values import Durability
from desist.workflow.execution import Runnable
from desist.workflow.workflow_function import WorkflowFunction

__all__ = ["WorkflowConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowConfig:
    """Made by `Workflow.config` when a run is opened: later changes of the workflow are for later runs."""

    workflow: Any  #: the Workflow, passed to a workflow function
    id: str
    name: str | None
    steps: Sequence[Runnable]
    program: WorkflowFunction | None  #: the function that is the whole workflow, instead of steps
    compensate: bool
    resumable: bool  #: whether another process resumes a run whose process has died
    durability: Durability  #: what a database keeps of a run while it goes on
    on_cancel: Callable[..., Any] | None
    history: tuple[bool, int]  #: whether agents get the session's last runs, and how many
    stream_executor_events: bool
    store_events: bool
    events_to_skip: Collection[str] | None
    store_executor_outputs: bool
