"""`EarlierRuns`: the earlier runs of a session, which steps get as `step_input.workflow_session`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from desist.run.options.parent_context import ParentContext
from desist.run.outputs.history import history_context, workflow_history
from desist.run.outputs.workflow_session import WorkflowSession
from desist.run.storage.store import RunStore, StoredSession, read

if TYPE_CHECKING:
    from desist.workflow.types import StepInput

__all__ = ["EarlierRuns", "with_history"]


class EarlierRuns:
    """The session of a run, as it was before the run, with all attributes of a `WorkflowSession`.

    The session is read from the store when an attribute is first used, from any thread. An async function that does so
    blocks its loop for as long as the disk takes.
    """

    def __init__(self, store: RunStore, parent: ParentContext) -> None:
        self._store, self._parent = store, parent
        self._lock = threading.Lock()
        self._whole: WorkflowSession | None = None

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return the inputs and answers of the last ended runs, the oldest first; None for all."""
        return workflow_history(self._outputs(num_runs))

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return the same as text for a model, or None if there are no earlier runs."""
        return history_context(self._outputs(num_runs))

    async def context_beside(self, num_runs: int | None) -> str | None:
        """Do the same in another thread. A cancel ends the wait at once."""
        return await read(self._store, lambda: self.get_workflow_history_context(num_runs))

    def _outputs(self, num_runs: int | None) -> list[Any]:
        parent = self._parent
        if parent.new_session or parent.session_id is None or num_runs == 0:
            return []
        owner = parent.workflow_id
        runs = self._store.session_runs(parent.session_id, kind="workflow", owner_id=owner, limit=num_runs)
        return [run.output for run in runs]

    def _session(self) -> WorkflowSession:
        with self._lock:
            if self._whole is None:
                parent = self._parent
                session_id = parent.session_id or ""
                stored = None if parent.new_session else self._store.load_session(session_id, "workflow")
                stored = stored or StoredSession(
                    session_id=session_id, kind="workflow", owner_id=parent.workflow_id, user_id=parent.user_id
                )
                self._whole = WorkflowSession.of(stored, self._outputs(None))
            return self._whole

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._session(), name)

    def __reduce__(self) -> Any:  # a worker process gets a copy
        return WorkflowSession.from_dict, (self._session().to_dict(),)


async def with_history(message: str, step_input: StepInput, *, enabled: bool, num_runs: int | None) -> str:
    """Return the message to an agent, if `enabled` with the text of the session's last runs before it."""
    earlier = step_input.workflow_session
    if not enabled or earlier is None:
        return message
    context = await earlier.context_beside(num_runs)
    return f"{context}\n\n{message}" if context else message
