"""Claim the session ids and run ids that clients choose, so that two requests can't use the same one."""

from __future__ import annotations

from typing import Any

from desist.cancel.status import RunStatus
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.storage.store import StoredRun, StoredSession, read
from desist.server.components import Component, Components
from desist.server.problems import HTTPProblem
from desist.server.run_lookup import RunLookup
from desist.server.tokens import Caller

__all__ = ["IdClaims"]


class IdClaims:
    """Claims ids in the stores of the served components."""

    def __init__(self, components: Components, lookup: RunLookup) -> None:
        self._components, self._lookup = components, lookup

    async def claim_session(self, component: Component, session_id: str, user: str | None, caller: Caller) -> None:
        """Make a session the user's own. Call before any of its history is read: a session belongs to one user.

        Raises:
            HTTPProblem: the session is another user's: 404 if the caller may not know that, else 409.
        """
        if user is None:  # only of a caller that may use every session
            return
        store, kind = component.store, self._components.kind_of(component)
        session = StoredSession(session_id=session_id, kind=kind, owner_id=component.id, user_id=user)
        others = await read(store, lambda: store.claim_session(session))
        if others and caller.owner is not None:
            raise HTTPProblem(404, "there is no session with this id: leave session_id out, or use a new one")
        if others - {None}:
            raise HTTPProblem(409, "this session belongs to another user: leave user_id out, or use a new session_id")

    async def reserve_run(self, component: Component, run_id: str, user: str | None, caller: Caller) -> None:
        """Reserve a run id that the client chose. No run has used the id, and no other request can get it.

        Raises:
            HTTPProblem: the id is taken: 409 if the caller may see the run, else 404.
        """
        kind = self._components.kind_of(component)
        # Without the session, which isn't claimed yet: this run must not count as part of its history.
        known: dict[str, Any] = {"run_id": run_id, "user_id": user}
        output: Any = (
            WorkflowRunOutput(workflow_id=component.id, workflow_name=component.name, **known)
            if kind == "workflow"
            else RunOutput(agent_id=component.id, agent_name=component.name, status=RunStatus.pending, **known)
        )
        run = StoredRun(
            kind=kind, owner_id=component.id, status=RunStatus.pending, output=output, root_run_id=run_id, **known
        )
        store = component.store
        # `load` finds runs in the other stores; in this store the write decides.
        if await self._lookup.load(run_id) is not None or not await read(store, lambda: store.reserve_run(run)):
            raise await self.conflict(run_id, caller)

    async def conflict(self, run_id: str, caller: Caller) -> HTTPProblem:
        """Return the error for a run id that is taken."""
        try:
            await self._lookup.find(run_id, caller)
        except HTTPProblem:
            return HTTPProblem(404, "no run can be started with this id: use a new one")
        return HTTPProblem(409, "there is already a run with this id: use a new one")
