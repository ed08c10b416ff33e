"""Base class of the sessions of agents and workflows: runs that belong together, with a shared state and a name.

A session is stored without its runs. The caller that loads a session also loads its runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.ids import id_text
from desist.run.records.metrics import RunMetrics
from desist.run.records.record import Record
from desist.run.storage.values import StoredSession

__all__ = ["Session", "from_stored"]

_KEPT_TOKENS = ("input_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "model_calls", "tool_calls")


class Session(Record):
    """Base of `AgentSession` and `WorkflowSession`, which define the fields. Not a dataclass itself."""

    kind: ClassVar[str] = ""
    session_id: str
    user_id: str | None
    runs: list[Any]
    session_data: dict[str, Any]
    metadata: dict[str, Any] | None
    created_at: int
    updated_at: int

    @property
    def session_state(self) -> dict[str, Any]:
        """The state that functions and tools of the session's runs share."""
        state: dict[str, Any] = self.session_data.setdefault("session_state", {})
        return state

    @property
    def session_name(self) -> str | None:
        """The name that was given to the session, or None."""
        return self.session_data.get("session_name")

    def get_run(self, run_id: str) -> Any | None:
        """Return the output of a run of this session, or None."""
        wanted = id_text(run_id, "run_id")
        return next((run for run in self.runs if run.run_id == wanted), None)

    def upsert_run(self, run: Any) -> None:
        """Add a run, or replace the run with the same id. Changes this object only, not the store."""
        for index, known in enumerate(self.runs):
            if known.run_id == run.run_id:
                self.runs[index] = run
                return
        self.runs.append(run)

    def last_runs(self, count: int | None = None) -> list[Any]:
        """Return the last `count` ended runs, oldest first; None for all."""
        ended = [run for run in self.runs if run.status.is_final]
        return ended if count is None else ended[max(0, len(ended) - count) :]

    def metrics(self) -> RunMetrics:
        """Return the sums of tokens, calls and seconds of all runs."""
        total = RunMetrics(duration=0.0)
        for run in self.runs:
            for used in _used(run):
                for name in _KEPT_TOKENS:
                    setattr(total, name, getattr(total, name) + getattr(used, name))
            total.duration = (total.duration or 0.0) + (getattr(run.metrics, "duration", None) or 0.0)
        return total

    def to_stored(self) -> StoredSession:
        """Return the stored form: all fields except the runs."""
        return StoredSession(
            session_id=self.session_id,
            kind=self.kind,
            owner_id=self.owner_id,
            user_id=self.user_id,
            session_data=self.session_data,
            metadata=self.metadata,
            created_at=self.created_at,
        )

    @property
    def owner_id(self) -> str | None:
        """The id of the workflow or agent that created the session."""
        raise NotImplementedError


def _used(run: Any) -> Iterable[RunMetrics]:
    inner = run.step_executor_runs or () if isinstance(run, WorkflowRunOutput) else (run,)
    for one in inner:
        if isinstance(one, WorkflowRunOutput):
            yield from _used(one)
        elif one.metrics is not None:
            yield one.metrics


def from_stored(stored: StoredSession) -> dict[str, Any]:
    """Return the fields of a stored session that all kinds of sessions share."""
    return {
        "session_id": stored.session_id,
        "user_id": stored.user_id,
        "session_data": stored.session_data,
        "metadata": stored.metadata,
        "created_at": int(stored.created_at),
        "updated_at": int(stored.updated_at),
    }
