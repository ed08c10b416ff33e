"""`RunContext`: the data of a run for tools, function steps and hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.cancel.token import CancelToken
from desist.run.options.idempotency import idempotency_key

__all__ = ["RunContext", "idempotency_key"]


@dataclass(slots=True, kw_only=True)
class RunContext:
    """The current run. Injected into a parameter named `run_context`."""

    run_id: str
    session_id: str | None = None
    user_id: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    workflow_run_id: str | None = None
    session_state: dict[str, Any] = field(default_factory=dict)  #: shared by all steps of a run
    dependencies: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    cancel_token: CancelToken = field(default_factory=CancelToken)  #: cancelled when the work must stop

    @property
    def idempotency_key(self) -> str:
        """The key of the current tool call or function step; see `idempotency_key()`."""
        return idempotency_key()
