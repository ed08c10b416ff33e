"""`ParentContext`: the session, workflow and step that a run inherits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.cancel.token import CancelToken
from desist.run.options.context import RunContext

__all__ = ["ParentContext"]


@dataclass(slots=True, kw_only=True)
class ParentContext:
    """Values that a run inherits from its parent. An id is None if there is no such workflow, step or session."""

    session_id: str | None = None
    new_session: bool = False  #: this run is the first of the session, so no session is loaded
    user_id: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    workflow_run_id: str | None = None
    step_id: str | None = None
    step_name: str | None = None
    step_index: int | tuple[int, ...] | None = None
    nested_depth: int = 0
    session_state: dict[str, Any] = field(default_factory=dict)
    dependencies: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    def run_context(self, run_id: str, workflow_run_id: str | None, token: CancelToken) -> RunContext:
        """Return the `RunContext` for tools, functions and hooks. The session state is shared, not copied."""
        return RunContext(
            run_id=run_id,
            session_id=self.session_id,
            user_id=self.user_id,
            workflow_id=self.workflow_id,
            workflow_name=self.workflow_name,
            workflow_run_id=workflow_run_id,
            session_state=self.session_state,
            dependencies=self.dependencies,
            metadata=self.metadata,
            cancel_token=token,
        )
