"""Start, continue, follow and cancel runs on behalf of a caller. All HTTP routes and protocols call this.

Knows callers, components and stores; knows nothing of HTTP requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError, RunIdInUseError
from desist.run.cancel import acancel
from desist.run.execution.follow import follow_in_process, follow_shared
from desist.run.execution.run import new_id
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import StoredRun, read
from desist.runtime.latch import Latch
from desist.server.active_runs import ActiveRuns
from desist.server.components import Components
from desist.server.disconnects import FollowerTracker
from desist.server.id_claims import IdClaims
from desist.server.problems import HTTPProblem
from desist.server.run_lookup import RunLookup
from desist.server.settings import Limits
from desist.server.tokens import Caller
from desist.streams.follower import Follower
from desist.streams.replay_channel import ReplayCursor
from desist.workflow.workflow import Workflow

__all__ = ["OnDisconnect", "RunService", "StartOptions"]

OnDisconnect = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """The options of a client for a new run."""

    session_id: str | None = None
    user_id: str | None = None
    run_id: str | None = None  #: chosen by the client
    on_disconnect: OnDisconnect = "continue"
    disconnect_grace: float | None = None  #: seconds that all clients may be away; None for the server's own limit
    options: dict[str, Any] = field(default_factory=dict)  #: for `arun`


class RunService:
    """The runs of a server's components. All methods run on the server's loop."""

    def __init__(self, components: Components, limits: Limits) -> None:
        self.components, self.limits = components, limits
        self.runs = RunLookup(components)
        self.followers = FollowerTracker()
        self.active_runs = ActiveRuns(limits.runs, self.followers)
        self._claims = IdClaims(components, self.runs)
        self.cancels: Counter[str] = Counter()  #: cancel requests of clients, by outcome

    # -- starting

    async def start(self, component: Any, input: Any, options: StartOptions, caller: Caller) -> Any:
        """Start a run in the background. Return its pending output."""
        user = _user(options, caller)
        self.active_runs.check()
        options = replace(options, user_id=user)
        if options.run_id is None:
            return await self._start(component, input, options, caller)
        await self._claims.reserve_run(component, options.run_id, user, caller)
        try:
            return await self._start(component, input, options, caller)
        except RunIdInUseError:  # by a live run that is recorded in another store
            raise await self._claims.conflict(options.run_id, caller) from None
        finally:
            component.store.end_reservation(options.run_id)

    async def _start(self, component: Any, input: Any, options: StartOptions, caller: Caller) -> Any:
        if options.session_id is not None:
            await self._claims.claim_session(component, options.session_id, options.user_id, caller)
        self.active_runs.check()  # again: other runs may have started during the awaits
        run_options = options.options if options.run_id is None else options.options | {"run_id": options.run_id}
        pending = await component.arun(
            input,
            stream=False,
            stream_events=True,
            background=True,
            session_id=options.session_id or new_id(),
            user_id=options.user_id,
            **run_options,
        )
        return self._register(pending, options, caller)

    async def continue_run(self, found: StoredRun, options: StartOptions, caller: Caller) -> Any:
        """Continue a cancelled or failed run in the background. Return the new run's pending output."""
        component = self.runs.component_of(found)
        self.active_runs.check()
        if caller.owner is not None and found.session_id is not None:
            await self._claims.claim_session(component, found.session_id, caller.owner, caller)
        pending = await component.acontinue_run(
            found.output, stream=False, stream_events=True, background=True, **options.options
        )
        return self._register(pending, options, caller)

    async def resume_orphans(self) -> None:
        """Resume the orphaned runs of workflows with `on_crash="resume"`. Called when a server starts."""
        for component in self.components.of_kind("workflow"):
            assert isinstance(component, Workflow)
            if component.on_crash == "resume":
                for run_id in await component.aresume_lost_runs():
                    self.active_runs.add(run_id)

    def _register(self, pending: Any, options: StartOptions, caller: Caller) -> Any:
        if options.on_disconnect == "cancel":
            self.followers.watch(
                pending.run_id,
                self.limits.away if options.disconnect_grace is None else options.disconnect_grace,
                caller,
            )
        self.active_runs.add(pending.run_id)
        return pending

    # -- following

    async def follow(self, found: StoredRun, after: int | None) -> Follower[Any]:
        """Return the events of a run after an index; also of another process, if the database is shared.

        Raises:
            HTTPProblem: 409 if the run can't be followed, 410 if those events are no longer stored.
        """
        shared = shared_store(await self.runs.store_of(found))
        if shared is not None:
            follower = follow_shared(shared, found.run_id, after)
            if not isinstance(follower.cursor, ReplayCursor):  # a replay is in memory: nothing to fetch
                await read(shared, follower.begin)
            return follower
        try:
            known = follow_in_process(found.run_id, after)
        except ConfigurationError as error:
            if registry.get(found.run_id) is not None and found.run_id != found.root_run_id:
                raise HTTPProblem(
                    409, "this run is part of another run: follow root_run_id instead", root_run_id=found.root_run_id
                ) from None
            raise HTTPProblem(410, str(error)) from None
        if known is not None:
            return known
        if not found.output.status.is_final:
            raise HTTPProblem(
                409,
                "this run belongs to another process, and its store is not shared between processes: "
                "it can be followed only there",
            )
        return self.runs.component_of(found).follow_output(found.output, after)

    # -- cancelling

    async def cancel(self, run_id: str, caller: Caller, **options: Any) -> CancelReceipt:
        """Cancel a run by any id of its tree. `options` are the keywords of `desist.run.cancel.cancel`.

        Raises:
            HTTPProblem: 404 for a run that doesn't exist or that the caller may not see; 409 for a run of another
                process whose database isn't shared.
        """
        receipt = await self._cancel(await self.runs.find(run_id, caller), run_id, options)
        self.cancels[receipt.outcome.value] += 1
        return receipt

    async def _cancel(self, found: StoredRun, run_id: str, options: dict[str, Any]) -> CancelReceipt:
        if run_id in registry:
            return await acancel(run_id, **options)
        output = found.output
        if not output.status.is_final:
            shared = shared_store(await self.runs.store_of(found))
            if shared is None:
                raise HTTPProblem(
                    409,
                    "this run belongs to another process, and its store is not shared between processes: "
                    "send the request to that process",
                )
            return await acancel(run_id, db=shared, **options)
        cancelled = output.status is RunStatus.cancelled
        ended = Latch()
        ended.set()
        outcome = Outcome.already_cancelled if cancelled else Outcome.finished
        return CancelReceipt(outcome, run_id, lambda: found.output.status, output.cancel, ended)

    async def settle(self, receipt: CancelReceipt, seconds: float) -> None:
        """Wait until a cancelled run has settled, but no longer than `seconds` and the server's limit."""
        try:
            async with asyncio.timeout(min(seconds, self.limits.wait)):
                await receipt
        except TimeoutError:
            pass


def _user(options: StartOptions, caller: Caller) -> str | None:
    if caller.owner is None:
        return options.user_id
    if options.user_id not in (None, caller.owner):
        raise HTTPProblem(403, "this token can't start runs for another user: leave user_id out")
    return caller.owner
