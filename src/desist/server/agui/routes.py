"""`/v1/agui`: where clients of AG-UI start runs and read them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from desist.run.store import StoredRun
from desist.server.agui.ask import RunAgentInput
from desist.server.agui.telling import Telling
from desist.server.components import Kind
from desist.server.core import OnDisconnect, Wish
from desist.server.requests import MayRun, Talk, given_of, problems, streamed
from desist.server.stream import EventStream
from desist.server.tokens import Caller

__all__ = ["agui_routes", "agui_stream"]

_LEFT = "What becomes of the run when its client, and whoever else follows it, is lost."


def agui_routes(talk: Talk) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/agui", tags=["agui"])
    _starting(routes, talk, "workflow")
    _starting(routes, talk, "agent")
    return routes


async def agui_stream(talk: Talk, found: StoredRun, caller: Caller) -> EventStream:
    """Return the response that tells a run, from its beginning."""
    telling = Telling(found.run_id, found.session_id or found.run_id)
    return talk.tell(await talk.core.follow(found, None), telling, caller, retry=False)


def _starting(routes: APIRouter, talk: Talk, kind: Kind) -> None:
    core = talk.core

    @routes.post(
        f"/{kind}s/{{component_id}}",
        operation_id=f"agui_run_{kind}",
        response_model=None,
        responses={200: streamed("The run, as events of AG-UI 1.0."), **problems(404, 409, 413, 429)},
    )
    async def run_agent(
        component_id: str,
        ask: RunAgentInput,
        caller: MayRun,
        on_disconnect: Annotated[OnDisconnect, Query(description=_LEFT)] = "cancel",
    ) -> Response:
        """Start a run, and read it. To stop it leave, or cancel it by its `runId`."""
        talk.streams.check(caller)
        component = core.components.get(kind, component_id)
        wish = Wish(session_id=ask.thread_id, on_disconnect=on_disconnect, away=0.0, options={"run_id": ask.run_id})
        pending = await core.start(component, given_of(component, ask.text()), wish, caller)
        return await agui_stream(talk, await core.find(pending.run_id, caller), caller)
