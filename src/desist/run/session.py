"""Sessions as programs see them: runs that belong together, and what they share. `desist.session` is their face.

A session has its runs, but isn't stored with copies of them: whoever loads one puts the runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, ClassVar, Self

from desist.run.agent_output import RunOutput
from desist.run.base import RunStatus, now
from desist.run.history import history_context, messages_of_runs, workflow_history
from desist.run.message import Message
from desist.run.metrics import RunMetrics
from desist.run.record import Record, Reviver, list_of, record, revive_as
from desist.run.store import RunStore
from desist.run.stored import StoredSession
from desist.run.workflow_output import WorkflowRunOutput, run_from_dict

__all__ = ["AgentSession", "Session", "WorkflowSession", "load_session"]

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


@record
class AgentSession(Session):
    """The runs of an agent that belong together."""

    session_id: str
    user_id: str | None = None
    agent_id: str | None = None
    runs: list[RunOutput] = field(default_factory=list)
    session_data: dict[str, Any] = field(default_factory=dict)
    agent_data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    created_at: int = field(default_factory=now)
    updated_at: int = field(default_factory=now)

    kind: ClassVar[str] = "agent"
    _revivers: ClassVar[Mapping[str, Reviver]] = {"runs": list_of(revive_as(RunOutput))}

    @property
    def owner_id(self) -> str | None:
        """The agent's id."""
        return self.agent_id

    @classmethod
    def of(cls, stored: StoredSession, runs: list[Any]) -> Self:
        """Return the session that a store holds, with its runs."""
        return cls(agent_id=stored.owner_id, runs=runs, **_known(stored))

    def get_messages(
        self,
        agent_id: str | None = None,
        *,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Iterable[str] = (),
        skip_statuses: Iterable[RunStatus] = (),
    ) -> list[Message]:
        """Return what was said in the runs, valid as the beginning of a request: every call has its result.

        Parameters:
            agent_id: only in runs of this agent.
            last_n_runs: only in the last runs; None for all.
            limit: only the last messages. A result is never parted from its call: there may be fewer.
            skip_roles: leave out messages of these roles.
            skip_statuses: leave out runs that stand so.
        """
        skipped, roles = set(skip_statuses), set(skip_roles)
        runs = [run for run in self.runs if agent_id in (None, run.agent_id)]
        ended = [run for run in runs if run.status.is_final and run.status not in skipped]
        if last_n_runs is not None:
            ended = ended[max(0, len(ended) - last_n_runs) :]
        told = messages_of_runs(ended)
        if limit is not None:
            told = told[max(0, len(told) - limit) :]
            while told and told[0].role == "tool":
                told.pop(0)
        return [message for message in told if message.role not in roles]

    def get_chat_history(self, last_n_runs: int | None = None) -> list[Message]:
        """Return what the user and the agent said, without tool calls and their results."""
        told = self.get_messages(last_n_runs=last_n_runs, skip_roles=("tool",))
        return [message for message in told if message.content]

    def get_tool_calls(self, num_calls: int | None = None) -> list[Any]:
        """Return the calls of tools in its runs, the last one first."""
        calls = [call for run in reversed(self.runs) for call in reversed(run.tools or [])]
        return calls[:num_calls]


@record
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
    _revivers: ClassVar[Mapping[str, Reviver]] = {"runs": list_of(run_from_dict)}

    @property
    def owner_id(self) -> str | None:
        """The workflow's id."""
        return self.workflow_id

    @classmethod
    def of(cls, stored: StoredSession, runs: list[Any]) -> Self:
        """Return the session that a store holds, with its runs."""
        name = next((run.workflow_name for run in reversed(runs) if run.workflow_name), None)
        return cls(workflow_id=stored.owner_id, workflow_name=name, runs=runs, **_known(stored))

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return what was asked and what was answered in the last ended runs, the oldest first; None for all."""
        return workflow_history(self.runs, num_runs)

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the same as text for a model, or None if there is nothing to tell."""
        return history_context(self.runs, num_runs)

    def get_messages(self, last_n_runs: int | None = None) -> list[Message]:
        """Return each run as a question and an answer. A stopped run's answer is what it had said, marked."""
        return [
            message
            for asked, answer in workflow_history(self.runs, last_n_runs)
            for message in (Message("user", asked), Message("assistant", answer))
        ]

    def get_chat_history(self, last_n_runs: int | None = None) -> list[WorkflowRunOutput]:
        """Return the last ended runs, the oldest first."""
        return self.last_runs(last_n_runs)


def _known(stored: StoredSession) -> dict[str, Any]:
    return {
        "session_id": stored.session_id,
        "user_id": stored.user_id,
        "session_data": stored.session_data,
        "metadata": stored.metadata,
        "created_at": int(stored.created_at),
        "updated_at": int(stored.updated_at),
    }


#: What a kind's session is made of: a record and runs.
MAKERS: dict[str, Callable[[StoredSession, list[Any]], Session]] = {
    "agent": AgentSession.of,
    "workflow": WorkflowSession.of,
}


def load_session(
    store: RunStore, session_id: str, kind: str, user_id: str | None = None, owner_id: str | None = None
) -> Any:
    """Return a session with its runs, or None. One that was never written, but has runs, is made of them.

    Parameters:
        kind: "agent" or "workflow".
        user_id: only if the session is this user's, or nobody's.
        owner_id: only with the runs of this agent or workflow.
    """
    stored = store.load_session(session_id, kind)
    runs = store.session_runs(session_id, kind=kind, owner_id=owner_id, ended_only=False)
    if stored is None:
        if not runs:
            return None
        first = runs[0]
        stored = StoredSession(
            session_id=session_id,
            kind=kind,
            owner_id=first.owner_id,
            user_id=first.user_id,
            created_at=first.created_at,
        )
    if user_id is not None and stored.user_id not in (None, user_id):
        return None
    return MAKERS[kind](stored, [run.output for run in runs])
