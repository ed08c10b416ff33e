"""`AgentSession`: what an agent and its users said to each other. `desist.session` is its face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, ClassVar, Self

from desist.run.events.base import RunStatus, now
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.history import messages_of_runs
from desist.run.outputs.session import Session, from_stored
from desist.run.records.message import Message
from desist.run.records.record import Reviver, list_of, record_class, reviver
from desist.run.storage.values import StoredSession

__all__ = ["AgentSession"]


@record_class
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
    _revivers: ClassVar[Mapping[str, Reviver]] = {"runs": list_of(reviver(RunOutput))}

    @property
    def owner_id(self) -> str | None:
        """The agent's id."""
        return self.agent_id

    @classmethod
    def of(cls, stored: StoredSession, runs: list[Any]) -> Self:
        """Return the session that a store holds, with its runs."""
        return cls(agent_id=stored.owner_id, runs=runs, **from_stored(stored))

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
