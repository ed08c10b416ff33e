"""What sessions of agents and workflows share: runs that belong together, their state and name.

A session has its runs, but isn't stored with copies of them: whoever loads one puts the runs in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.metrics import RunMetrics
from desist.run.records.record import Record
from desist.run.storage.values import StoredSession

__all__ = ["Session", "from_stored"]

_KEPT_TOKENS = ("input_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "model_calls", "tool_calls")


class Session(Record):
    """What sessions of agents and workflows share. Not a dataclass itself: the fields stand in the subclasses."""

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
        """What functions and tools of its runs share."""
        state: dict[str, Any] = self.session_data.setdefault("session_state", {})
        return state

    @property
    def session_name(self) -> str | None:
        """How somebody called it."""
        return self.session_data.get("session_name")

    def get_run(self, run_id: str) -> Any | None:
        """Return the output of a run of this session, or None."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    def upsert_run(self, run: Any) -> None:
        """Put a run in, in the place of the one with its id. Changes this object; a store is told by the database."""
        for place, known in enumerate(self.runs):
            if known.run_id == run.run_id:
                self.runs[place] = run
                return
        self.runs.append(run)

    def last_runs(self, count: int | None = None) -> list[Any]:
        """Return the last `count` ended runs, the oldest first."""
        ended = [run for run in self.runs if run.status.is_final]
        return ended if count is None else ended[max(0, len(ended) - count) :]

    def metrics(self) -> RunMetrics:
        """Return what all runs used together: tokens, calls and seconds."""
        total = RunMetrics(duration=0.0)
        for run in self.runs:
            for used in _used(run):
                for name in _KEPT_TOKENS:
                    setattr(total, name, getattr(total, name) + getattr(used, name))
            total.duration = (total.duration or 0.0) + (getattr(run.metrics, "duration", None) or 0.0)
        return total

    def to_stored(self) -> StoredSession:
        """Return what is stored of it: everything but the runs."""
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
        """The id of the workflow or agent that made it."""
        raise NotImplementedError


def _used(run: Any) -> Iterable[RunMetrics]:
    inner = run.step_executor_runs or () if isinstance(run, WorkflowRunOutput) else (run,)
    for one in inner:
        if isinstance(one, WorkflowRunOutput):
            yield from _used(one)
        elif one.metrics is not None:
            yield one.metrics


def from_stored(stored: StoredSession) -> dict[str, Any]:
    """Return the fields that a stored session has in common with any session."""
    return {
        "session_id": stored.session_id,
        "user_id": stored.user_id,
        "session_data": stored.session_data,
        "metadata": stored.metadata,
        "created_at": int(stored.created_at),
        "updated_at": int(stored.updated_at),
    }
