"""`/v1/agui`: where clients of AG-UI start runs and read them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from desist.run.storage.store import StoredRun
from desist.server.api.v1_schemas import Seconds
from desist.server.components import Kind
from desist.server.dependencies import ApiContext, MayRun, parse_input, problems, streamed
from desist.server.event_stream import EventStream
from desist.server.protocols.agui.encoder import AGUIEncoder
from desist.server.protocols.agui.schemas import RunAgentInput
from desist.server.run_service import OnDisconnect, StartOptions
from desist.server.tokens import Caller

__all__ = ["agui_routes", "agui_stream"]

_AWAY = "Seconds that they may be absent; else the server's. 0: a client that stops by leaving stops it at once."
_LEFT = "What becomes of the run when its client, and whoever else may cancel it, has left."


def agui_routes(api: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/agui", tags=["agui"])
    _starting(routes, api, "workflow")
    _starting(routes, api, "agent")
    return routes


async def agui_stream(api: ApiContext, found: StoredRun, caller: Caller, *, starts: bool) -> EventStream:
    """Return the response that tells a run, from its beginning. `starts` as for `ApiContext.stream`."""
    telling = AGUIEncoder(found.run_id, found.session_id or found.run_id)
    return api.stream(await api.service.follow(found, None), telling, caller, retry=False, starts=starts)


def _starting(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.post(
        f"/{kind}s/{{component_id}}",
        operation_id=f"agui_run_{kind}",
        response_model=None,
        responses={200: streamed("The run, as events of AG-UI 1.0."), **problems(404, 409, 413, 429)},
    )
    async def run_agent(
        component_id: str,
        body: RunAgentInput,
        caller: MayRun,
        on_disconnect: Annotated[OnDisconnect, Query(description=_LEFT)] = "cancel",
        away: Annotated[Seconds | None, Query(description=_AWAY)] = None,
    ) -> Response:
        """Start a run, and read it. To stop it cancel it by its `runId`, or leave."""
        api.streams.check(caller)
        component = service.components.get(kind, component_id)
        wish = StartOptions(
            session_id=body.thread_id, run_id=body.run_id, on_disconnect=on_disconnect, disconnect_grace=away
        )
        pending = await service.start(component, parse_input(component, body.text()), wish, caller)
        return await agui_stream(api, await service.runs.find(pending.run_id, caller), caller, starts=True)
