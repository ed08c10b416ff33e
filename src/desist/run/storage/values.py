"""The values that a store stores: runs, sessions, and changes of them. Used by every store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from desist.cancel.reason import CancelReason
from desist.cancel.receipt import CancelRecord
from desist.cancel.scope import Reach
from desist.cancel.status import RunStatus
from desist.run.options.durable_limits import DurableLimits
from desist.run.records.requirement import Requirement
from desist.run.storage.event_buffer import EventBuffer

__all__ = ["DURABILITIES", "CancelRequest", "Durability", "Output", "PartKind", "RunQuery", "SessionUpdate"]
__all__ += ["StoredRun", "StoredSession", "other_users"]

#: What a store keeps of a live run, from all of it to its start, its cancel and its end.
Durability = Literal["full", "events", "ends"]
DURABILITIES: tuple[Durability, ...] = ("full", "events", "ends")

#: The kind of a part: a `Message`, a `ToolExecution`, a `StepOutput`; "begun" is the `StepOutput` of a container, or of
#: a step with a child run, that has not ended; "again" means that the run started again, and earlier parts do not
#: count; "spent" is the `BudgetUsage` of the run.
PartKind = Literal["message", "tool", "step", "begun", "again", "spent"]


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """A stored session. Its runs are stored separately."""

    session_id: str
    kind: str  #: "workflow" or "agent"
    owner_id: str | None = None  #: of the workflow or agent that made it
    user_id: str | None = None
    session_data: dict[str, Any] = field(default_factory=dict)  #: "session_state", "session_name"
    metadata: dict[str, Any] | None = None
    created_at: float = field(default_factory=time.time)  #: seconds since the epoch
    updated_at: float = field(default_factory=time.time)


def other_users(session_users: set[str | None], run_users: set[str | None], user_id: str | None) -> set[str | None]:
    """Return the other users that own a session or have messages in it. If there are none, the session is this user's.

    Parameters:
        session_users: the users of the sessions with this id, of all kinds.
        run_users: the users of its runs. A run without a user was started by a caller that may use any session: it
            counts only if there is no session, because the session was deleted.
    """
    return (session_users | (run_users - {None} if session_users else run_users)) - {user_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """A cancel request, as a process needs it to apply the cancel for another process."""

    reason: CancelReason
    reach: Reach = "tree"
    grace: float | None = None  #: seconds
    force: bool = False
    compensate: bool = False


@dataclass(slots=True, kw_only=True)
class SessionUpdate:
    """A change of a session. A store applies it to the stored session in one transaction.

    Runs of one session may end at the same time: each writes only the keys of the state that it has changed.
    """

    session_id: str
    kind: str
    owner_id: str | None = None
    user_id: str | None = None
    before: dict[str, Any] = field(default_factory=dict)  #: the state as it was stored when the run began
    after: dict[str, Any] = field(default_factory=dict)  #: and as the run leaves it
    name: str | None = None  #: a new name
    metadata: dict[str, Any] | None = None
    new: bool = False  #: the session is likely not to exist yet

    @property
    def keeps_state(self) -> bool:
        """Whether the state and the name of the session stay as they are."""
        keys = self.before.keys() == self.after.keys()
        return self.name is None and keys and not any(self._changed(key, value) for key, value in self.after.items())

    def apply(self, held: StoredSession | None) -> StoredSession:
        """Return the session with the change; `held` is the stored session, and is not modified."""
        data = dict(held.session_data) if held else {}
        state = dict(data.get("session_state") or {})
        for key in self.before.keys() - self.after.keys():
            state.pop(key, None)
        state.update({key: value for key, value in self.after.items() if self._changed(key, value)})
        data["session_state"] = state
        if self.name is not None:
            data["session_name"] = self.name
        return StoredSession(
            session_id=self.session_id,
            kind=self.kind,
            owner_id=(held.owner_id if held else None) or self.owner_id,
            user_id=(held.user_id if held else None) or self.user_id,
            session_data=data,
            metadata=(held.metadata if held else None) or self.metadata,
            created_at=held.created_at if held else time.time(),
        )

    def _changed(self, key: str, value: Any) -> bool:
        try:
            return key not in self.before or bool(self.before[key] != value)
        except Exception:  # raised by a value that can't be compared
            return True


class Output(Protocol):
    """The fields that the outputs of agents and workflows share (`RunOutput`, `WorkflowRunOutput`)."""

    run_id: str | None
    status: RunStatus
    content: Any
    session_id: str | None
    user_id: str | None
    metadata: dict[str, Any] | None
    events: Any
    metrics: Any
    input: Any
    error: str | None
    continued_from: str | None
    cancel: CancelRecord | None
    store_error: str | None


@dataclass(slots=True, kw_only=True)
class StoredRun:
    """A stored run: its ids, its status, and its output (`RunOutput`, `WorkflowRunOutput`)."""

    run_id: str
    kind: str  #: "workflow" or "agent"
    status: RunStatus
    output: Output
    root_run_id: str
    parent_run_id: str | None = None
    session_id: str | None = None
    owner_id: str | None = None  #: of the workflow or agent
    user_id: str | None = None
    created_at: float = field(default_factory=time.time)  #: when the run was opened; seconds since the epoch
    resumable: bool = False  #: whether its workflow resumes it if its process has died
    process: str | None = (
        None  #: the process that runs it; see `desist.db.process.identity`. Set by stores that outlive one.
    )
    session: SessionUpdate | None = None  #: its change of the session, stored in the same transaction
    event_buffer: EventBuffer | None = (
        None  #: its unwritten events, stored with it; the terminal event is stored with the end
    )
    options: DurableLimits | None = None  #: its limits
    next_event: int = 0  #: the number of its next event, for a process that resumes it
    requirements: Sequence[Requirement] = ()  #: what a paused run waits for, stored with it
    has_paused_children: bool = False  #: whether runs in its steps wait for a human: they end with it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """A filter of runs. None does not filter. Child runs never match."""

    owners: frozenset[tuple[str, str]] | None = None  #: kind and id of the workflows and agents
    session_id: str | None = None
    user_id: str | None = None
    status: RunStatus | None = None
    created_before: float | None = None  #: seconds since the epoch
    after: tuple[float, str] | None = None  #: time and id of the last run of the previous page
    limit: int | None = None

    def places(self, run: Any) -> bool:
        """Return whether a run, or its row, matches by owner, session and time. The status is not checked."""
        if run.parent_run_id is not None:
            return False
        if self.owners is not None and (run.kind, run.owner_id) not in self.owners:
            return False
        if self.created_before is not None and run.created_at >= self.created_before:
            return False
        if self.after is not None and (run.created_at, run.run_id) >= self.after:
            return False
        return self.session_id in (None, run.session_id) and self.user_id in (None, run.user_id)

    def matches(self, run: StoredRun) -> bool:
        """Return whether a run matches."""
        return self.status in (None, run.status) and self.places(run)

    def newest(self, runs: Iterable[StoredRun]) -> list[StoredRun]:
        """Return the matching runs, each once, the newest first. Of two with one id the first is returned."""
        once = {run.run_id: run for run in reversed(list(runs))}
        fitting = [run for run in once.values() if self.matches(run)]
        return sorted(fitting, key=lambda run: (run.created_at, run.run_id), reverse=True)[: self.limit]
