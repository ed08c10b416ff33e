"""The sessions of a workflow: looking at them from a program, and what steps may know of the runs before.

`WorkflowSessions` is the base of `Workflow`; `EarlierRuns` is what a step finds as `step_input.workflow_session`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from desist.run.component.awaitable import awaitable
from desist.run.component.sessions import SessionMethods
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.history import history_context, workflow_history
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.outputs.workflow_session import WorkflowSession
from desist.run.storage.store import RunStore, StoredSession, read

if TYPE_CHECKING:
    from desist.workflow.types import StepInput

__all__ = ["EarlierRuns", "WorkflowSessions", "with_history"]


class WorkflowSessions(SessionMethods):
    """What a workflow can say about its sessions. See `desist.run.component.sessions`."""

    _kind = "workflow"

    def get_run(self, run_id: str, session_id: str | None = None) -> WorkflowRunOutput | None:
        """Return what is recorded of a run, live or ended, or None."""
        found: WorkflowRunOutput | None = self.get_run_output(run_id, session_id)
        return found

    def get_chat_history(
        self, session_id: str | None = None, last_n_runs: int | None = None
    ) -> list[WorkflowRunOutput]:
        """Return the outputs of a session's last ended runs, the oldest first; None for all."""
        session = self.get_session(session_id)
        return session.get_chat_history(last_n_runs) if session is not None else []

    def _deleted_kind(self) -> str | None:
        return None  # with the runs of its agents, which share the session's id

    aget_run = awaitable(get_run)
    aget_chat_history = awaitable(get_chat_history)


class EarlierRuns:
    """The session of a run, as it was before it: everything that a `WorkflowSession` has.

    It is read from the store when something of it is first asked for. Sync functions may do so freely; an async one
    blocks its loop meanwhile, for as long as the disk takes.
    """

    def __init__(self, store: RunStore, parent: ParentContext) -> None:
        self._store, self._parent = store, parent
        self._lock = threading.Lock()
        self._whole: WorkflowSession | None = None

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return what was asked and what was answered in the last ended runs, the oldest first; None for all."""
        return workflow_history(self._outputs(num_runs))

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the same as text for a model, or None if there is nothing to tell."""
        return history_context(self._outputs(num_runs))

    async def context_beside(self, num_runs: int | None) -> str | None:
        """Do the same beside the loop. A cancel ends the wait at once."""
        return await read(self._store, lambda: self.get_workflow_history_context(num_runs))

    def _outputs(self, num_runs: int | None) -> list[Any]:
        place = self._parent
        if place.new_session or place.session_id is None or num_runs == 0:
            return []
        owner = place.workflow_id
        runs = self._store.session_runs(place.session_id, kind="workflow", owner_id=owner, limit=num_runs)
        return [run.output for run in runs]

    def _session(self) -> WorkflowSession:
        with self._lock:
            if self._whole is None:
                place = self._parent
                session_id = place.session_id or ""
                held = None if place.new_session else self._store.load_session(session_id, "workflow")
                held = held or StoredSession(
                    session_id=session_id, kind="workflow", owner_id=place.workflow_id, user_id=place.user_id
                )
                self._whole = WorkflowSession.of(held, self._outputs(None))
            return self._whole

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._session(), name)

    def __reduce__(self) -> Any:  # into a process of its own goes a copy
        return WorkflowSession.from_dict, (self._session().to_dict(),)


async def with_history(message: str, step_input: StepInput, *, enabled: bool, num_runs: int | None) -> str:
    """Return what an agent is asked, after what was said in the runs before, if the step or workflow wants that."""
    earlier = step_input.workflow_session
    if not enabled or earlier is None:
        return message
    context = await earlier.context_beside(num_runs)
    return f"{context}\n\n{message}" if context else message
