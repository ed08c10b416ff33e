"""Where a run stands: its session, and the workflow and step that it was started by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ParentContext"]


@dataclass(slots=True, kw_only=True)
class ParentContext:
    """What a run inherits from where it was started. All ids are None where there is nothing to name."""

    session_id: str | None = None
    new_session: bool = False  #: the session begins with this run: there is nothing to load
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
