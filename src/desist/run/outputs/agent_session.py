"""`AgentSession`: the runs of a conversation with an agent. Public import path: `desist.session`."""

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
    """The runs of an agent that belong to one conversation."""

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
        """Return a session from its stored form and its runs."""
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
        """Return the messages of the ended runs. Every call has its result, so a request may begin with them.

        Parameters:
            agent_id: only runs of this agent.
            last_n_runs: only the last runs; None for all.
            limit: only the last messages; fewer if the first of them would be a result without its call.
            skip_roles: omit messages with these roles.
            skip_statuses: omit runs with these statuses.
        """
        skipped, roles = set(skip_statuses), set(skip_roles)
        runs = [run for run in self.runs if agent_id in (None, run.agent_id)]
        ended = [run for run in runs if run.status.is_final and run.status not in skipped]
        if last_n_runs is not None:
            ended = ended[max(0, len(ended) - last_n_runs) :]
        messages = messages_of_runs(ended)
        if limit is not None:
            messages = messages[max(0, len(messages) - limit) :]
            while messages and messages[0].role == "tool":
                messages.pop(0)
        return [message for message in messages if message.role not in roles]

    def get_chat_history(self, last_n_runs: int | None = None) -> list[Message]:
        """Return the messages with text of the user and the agent, without tool results."""
        messages = self.get_messages(last_n_runs=last_n_runs, skip_roles=("tool",))
        return [message for message in messages if message.content]

    def get_tool_calls(self, num_calls: int | None = None) -> list[Any]:
        """Return the tool calls of the session's runs, newest first."""
        calls = [call for run in reversed(self.runs) for call in reversed(run.tools or [])]
        return calls[:num_calls]
