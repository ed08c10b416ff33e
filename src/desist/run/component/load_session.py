"""Loading a session with its runs from a store. Called by databases, and by agents and workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from desist.run.outputs.agent_session import AgentSession
from desist.run.outputs.session import Session
from desist.run.outputs.workflow_session import WorkflowSession
from desist.run.storage.store import RunStore
from desist.run.storage.values import StoredSession

__all__ = ["load_session"]

#: Makes the session of a kind from a stored session and runs.
_MAKERS: dict[str, Callable[[StoredSession, list[Any]], Session]] = {
    "agent": AgentSession.of,
    "workflow": WorkflowSession.of,
}


def load_session(
    store: RunStore, session_id: str, kind: str, user_id: str | None = None, owner_id: str | None = None
) -> Any:
    """Return a session with its runs, or None. A session that was never stored, but has runs, is made from them.

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
    return _MAKERS[kind](stored, [run.output for run in runs])
