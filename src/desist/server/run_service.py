"""What both faces of the server do: start, find, list, follow, cancel and continue runs, for whoever asks.

It knows callers, components and stores, and nothing of requests. A run that isn't the caller's is as one that isn't
there. What a run's end was, the store says; how it stands while it lives, the run.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from desist.cancel.receipt import CancelReceipt, Latch
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError, RunIdInUseError
from desist.run.cancel import acancel
from desist.run.execution.follow import follow_in_process, follow_shared
from desist.run.execution.run import new_id
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunQuery, RunStore, StoredRun, StoredSession, read
from desist.server.active_runs import ActiveRuns
from desist.server.components import Component, Components, Kind
from desist.server.disconnects import FollowerTracker
from desist.server.problems import HTTPProblem
from desist.server.settings import Limits
from desist.server.tokens import Caller
from desist.streams.follower import Follower
from desist.streams.replay_channel import ReplayCursor
from desist.workflow.workflow import Workflow

__all__ = ["OnDisconnect", "RunService", "StartOptions"]

OnDisconnect = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """How a client wants a run."""

    session_id: str | None = None
    user_id: str | None = None
    run_id: str | None = None  #: which the client has chosen
    on_disconnect: OnDisconnect = "continue"
    disconnect_grace: float | None = None  #: seconds that its clients may be away; None for the server's own
    options: dict[str, Any] = field(default_factory=dict)  #: for `arun`


class RunService:
    """The runs of a server's components."""

    def __init__(self, components: Components, limits: Limits) -> None:
        self.components, self.limits = components, limits
        self.presence = FollowerTracker()
        self.house = ActiveRuns(limits.runs, self.presence)

    # -- beginning

    async def start(self, component: Any, input: Any, options: StartOptions, caller: Caller) -> Any:
        """Start a run in the background; return its output as it is before it begins."""
        user = self._user(options, caller)
        self.house.check()
        options = replace(options, user_id=user)
        if options.run_id is None:
            return await self._begin(component, input, options, caller)
        await self._reserve(component, options, caller)
        try:
            return await self._begin(component, input, options, caller)
        except RunIdInUseError:  # by a live run that is recorded elsewhere
            raise await self._taken(options.run_id, caller) from None
        finally:
            component.store.end_reservation(options.run_id)

    async def _begin(self, component: Any, given: Any, wish: StartOptions, caller: Caller) -> Any:
        if wish.session_id is not None:
            await self._claim_session(component, wish.session_id, wish.user_id, caller)
        self.house.check()  # others may have come meanwhile
        options = wish.options if wish.run_id is None else wish.options | {"run_id": wish.run_id}
        pending = await component.arun(
            given,
            stream=False,
            stream_events=True,
            background=True,
            session_id=wish.session_id or new_id(),
            user_id=wish.user_id,
            **options,
        )
        return self._entered(pending, wish, caller)

    async def continue_run(self, found: StoredRun, options: StartOptions, caller: Caller) -> Any:
        """Go on with a run that was cancelled or has failed, in the background; return the new run's output."""
        component = self._component(found)
        self.house.check()
        if caller.owner is not None and found.session_id is not None:
            await self._claim_session(component, found.session_id, caller.owner, caller)
        pending = await component.acontinue_run(
            found.output, stream=False, stream_events=True, background=True, **options.options
        )
        return self._entered(pending, options, caller)

    async def resume_orphans(self) -> None:
        """Go on with the runs that were left to workflows with `on_crash="resume"`. When a server starts."""
        for component in self.components.of_kind("workflow"):
            assert isinstance(component, Workflow)
            if component.on_crash == "resume":
                for run_id in await component.aresume_lost_runs():
                    self.house.add(run_id)

    def _entered(self, pending: Any, options: StartOptions, caller: Caller) -> Any:
        if options.on_disconnect == "cancel":
            self.presence.watch(
                pending.run_id,
                self.limits.away if options.disconnect_grace is None else options.disconnect_grace,
                caller,
            )
        self.house.add(pending.run_id)
        return pending

    def _user(self, options: StartOptions, caller: Caller) -> str | None:
        if caller.owner is None:
            return options.user_id
        if options.user_id not in (None, caller.owner):
            raise HTTPProblem(403, "this token can't start runs for another user: leave user_id out")
        return caller.owner

    # -- ids that clients choose

    async def _claim_session(self, component: Component, session_id: str, user: str | None, caller: Caller) -> None:
        """A session has the history of its runs: it is one user's. Before anything of it is read.

        Raises:
            Refused: it is another user's: with 404 where the caller may not know that, else with 409.
        """
        if user is None:  # only of a caller that may use any session
            return
        store, kind = component.store, self.kind_of(component)
        session = StoredSession(session_id=session_id, kind=kind, owner_id=component.id, user_id=user)
        others = await read(store, lambda: store.claim_session(session))
        if others and caller.owner is not None:
            raise HTTPProblem(404, "there is no session with this id: leave session_id out, or take a new one")
        if others - {None}:
            raise HTTPProblem(409, "this session is another user's: leave user_id out, or take a new session_id")

    async def _reserve(self, component: Component, wish: StartOptions, caller: Caller) -> None:
        """Take a run id that a client has chosen: no run had it, and no other request gets it.

        Raises:
            Refused: there is a run with this id: with 409 if the caller may see it, else with 404.
        """
        run_id, kind = wish.run_id or "", self.kind_of(component)
        # Without its session, which isn't claimed yet: nothing of this run may count as said in it.
        known: dict[str, Any] = {"run_id": run_id, "user_id": wish.user_id}
        output: Any = (
            WorkflowRunOutput(workflow_id=component.id, workflow_name=component.name, **known)
            if kind == "workflow"
            else RunOutput(agent_id=component.id, agent_name=component.name, status=RunStatus.pending, **known)
        )
        run = StoredRun(
            kind=kind, owner_id=component.id, status=RunStatus.pending, output=output, root_run_id=run_id, **known
        )
        store = component.store
        # The look finds runs in the other stores; in this one the write decides.
        if await self._lookup(run_id) is not None or not await read(store, lambda: store.reserve_run(run)):
            raise await self._taken(run_id, caller)

    async def _taken(self, run_id: str, caller: Caller) -> HTTPProblem:
        """Return what a caller is told that wants an id which there is."""
        try:
            await self.find(run_id, caller)
        except HTTPProblem:
            return HTTPProblem(404, "a run with this id can't be started: take a new one")
        return HTTPProblem(409, "there is a run with this id already: take a new one")

    # -- finding

    def kind_of(self, component: Component) -> Kind:
        """Return "workflow" or "agent"."""
        return "workflow" if self.components.find("workflow", component.id) is component else "agent"

    async def find(self, run_id: str, caller: Caller) -> StoredRun:
        """Return a run by any id of its tree.

        Raises:
            Refused: with 404, if there is none that the caller may see.
        """
        found = await self._lookup(run_id)
        if found is not None:
            root = found if found.root_run_id == run_id else await self._lookup(found.root_run_id)
            if root is not None and self._may_see(caller, root):
                return found
        raise HTTPProblem(404, "there is no run with this id")

    async def _lookup(self, run_id: str) -> StoredRun | None:
        live: Any = registry.get(run_id)
        if live is not None and not live.scope.finalizing:
            found: StoredRun = live.to_stored(live.status)
            return found
        for store in self.components.stores():
            known = await read(store, functools.partial(store.load_run, run_id))
            if known is not None:
                status = known.output.status  # of a live one the store may know the start only
                return known if known.status.is_final else replace(known, status=status)
        return None

    def _may_see(self, caller: Caller, root: StoredRun) -> bool:
        known = self.components.find(root.kind, root.owner_id) is not None
        return known and caller.owner in (None, root.user_id)

    def _component(self, run: StoredRun) -> Component:
        found = self.components.find(run.kind, run.owner_id)
        if found is None:
            raise HTTPProblem(409, "this run is part of another one", root_run_id=run.root_run_id)
        return found

    async def list(self, query: RunQuery, caller: Caller) -> list[StoredRun]:
        """Return the runs that are meant and that the caller may see, the newest first."""
        if caller.owner is not None:
            if query.user_id not in (None, caller.owner):
                return []
            query = replace(query, user_id=caller.owner)
        mine = self.components.owners
        query = replace(query, owners=mine if query.owners is None else query.owners & mine)
        found: list[StoredRun] = []
        for store in self.components.stores() if query.owners else ():
            found += await read(store, functools.partial(store.list_runs, query))
        return query.newest(found)

    # -- following

    async def follow(self, found: StoredRun, after: int | None) -> Follower[Any]:
        """Return a stream of what a run tells after an event; of any process, where the database is shared.

        Raises:
            Refused: with 409 if it can't be followed, 410 if those events are gone.
        """
        shared = shared_store(await self._store_of(found))
        if shared is not None:
            follower = follow_shared(shared, found.run_id, after)
            if not isinstance(follower.cursor, ReplayCursor):  # else there is nothing to fetch
                await read(shared, follower.begin)
            return follower
        try:
            known = follow_in_process(found.run_id, after)
        except ConfigurationError as error:
            if registry.get(found.run_id) is not None and found.run_id != found.root_run_id:
                raise HTTPProblem(
                    409, "this run is part of another one: follow that", root_run_id=found.root_run_id
                ) from None
            raise HTTPProblem(410, str(error)) from None
        if known is not None:
            return known
        if not found.output.status.is_final:
            raise HTTPProblem(409, "this run is of another process, and its database is for one: it can't be followed")
        return self._component(found).follow_output(found.output, after)

    async def _store_of(self, found: StoredRun) -> RunStore | None:
        """Return where a run is recorded."""
        live: Any = registry.get(found.run_id)
        if live is not None:
            store: RunStore = live.store
            return store
        component = self.components.find(found.kind, found.owner_id)
        if component is not None:
            return component.store
        for store in self.components.stores():
            if await read(store, functools.partial(store.load_run, found.run_id)) is not None:
                return store
        return None

    # -- stopping

    async def cancel(self, run_id: str, caller: Caller, **how: Any) -> CancelReceipt:
        """Cancel a run by any id of its tree; see `desist.run.cancel.cancel`, whose keywords it takes.

        Raises:
            Refused: with 404 for a run that isn't there or isn't the caller's, 409 for one of another process whose
                database isn't shared.
        """
        found = await self.find(run_id, caller)
        if registry.__contains__(run_id):
            return await acancel(run_id, **how)
        output = found.output
        if not output.status.is_final:
            shared = shared_store(await self._store_of(found))
            if shared is None:
                raise HTTPProblem(409, "this run is of another process, and its database is for one: ask that process")
            return await acancel(run_id, db=shared, **how)
        cancelled = output.status is RunStatus.cancelled
        ended = Latch()
        ended.set()
        outcome = Outcome.already_cancelled if cancelled else Outcome.finished
        return CancelReceipt(outcome, run_id, lambda: found.output.status, output.cancel, ended)

    async def settle(self, receipt: CancelReceipt, seconds: float) -> None:
        """Wait until a cancelled run has settled, for a while."""
        try:
            async with asyncio.timeout(min(seconds, self.limits.wait)):
                await receipt
        except TimeoutError:
            pass
