"""`WorkflowSession`: the runs of a workflow that belong together. Public import path: `desist.session`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Self

from desist.run.events.base import now
from desist.run.events.registry import output_from_dict
from desist.run.outputs.history import history_context, workflow_history
from desist.run.outputs.session import Session, from_stored
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.message import Message
from desist.run.records.record import Reviver, list_of, record_class
from desist.run.storage.values import StoredSession

__all__ = ["WorkflowSession"]


@record_class
class WorkflowSession(Session):
    """The runs of a workflow that belong together."""

    session_id: str
    user_id: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    runs: list[WorkflowRunOutput] = field(default_factory=list)
    session_data: dict[str, Any] = field(default_factory=dict)
    workflow_data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    created_at: int = field(default_factory=now)
    updated_at: int = field(default_factory=now)

    kind: ClassVar[str] = "workflow"
    _revivers: ClassVar[Mapping[str, Reviver]] = {"runs": list_of(output_from_dict)}

    @property
    def owner_id(self) -> str | None:
        """The workflow's id."""
        return self.workflow_id

    @classmethod
    def of(cls, stored: StoredSession, runs: list[Any]) -> Self:
        """Return a session from its stored form and its runs."""
        name = next((run.workflow_name for run in reversed(runs) if run.workflow_name), None)
        return cls(workflow_id=stored.owner_id, workflow_name=name, runs=runs, **from_stored(stored))

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return pairs of input and answer of the last `num_runs` ended runs, oldest first; None for all."""
        return workflow_history(self.runs, num_runs)

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the history as text for a model, or None if there are no ended runs."""
        return history_context(self.runs, num_runs)

    def get_messages(self, last_n_runs: int | None = None) -> list[Message]:
        """Return a user message and an assistant message per ended run. A partial answer is marked as such."""
        return [
            message
            for question, answer in workflow_history(self.runs, last_n_runs)
            for message in (Message("user", question), Message("assistant", answer))
        ]

    def get_chat_history(self, last_n_runs: int | None = None) -> list[WorkflowRunOutput]:
        """Return the last `last_n_runs` ended runs, oldest first; None for all."""
        return self.last_runs(last_n_runs)
