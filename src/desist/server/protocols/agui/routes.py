"""`/v1/agui`: start and follow runs with AG-UI."""

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

_AWAY = "Seconds that the client may be absent before the run is cancelled. 0: closing the stream cancels it at once."
_LEFT = "What happens to the run when its client, and all others that may cancel it, have disconnected."


def agui_routes(api: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/agui", tags=["agui"])
    _start_routes(routes, api, "workflow")
    _start_routes(routes, api, "agent")
    return routes


async def agui_stream(api: ApiContext, found: StoredRun, caller: Caller, *, starts: bool) -> EventStream:
    """Return the response with all events of a run. For `starts` see `ApiContext.stream`."""
    encoder = AGUIEncoder(found.run_id, found.session_id or found.run_id)
    return api.stream(await api.service.follow(found, None), encoder, caller, retry=False, starts=starts)


def _start_routes(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.post(
        f"/{kind}s/{{component_id}}",
        operation_id=f"agui_run_{kind}",
        response_model=None,
        responses={200: streamed("The events of the run in AG-UI 1.0."), **problems(404, 409, 413, 429)},
    )
    async def run_agent(
        component_id: str,
        body: RunAgentInput,
        caller: MayRun,
        on_disconnect: Annotated[OnDisconnect, Query(description=_LEFT)] = "cancel",
        # An AG-UI client has no other way to stop a run than to close the stream: its stop button does only that.
        away: Annotated[Seconds, Query(description=_AWAY)] = 0.0,
    ) -> Response:
        """Start a run and stream its events. To stop the run, close the stream, or cancel the run by its `runId`."""
        api.streams.check(caller)
        component = service.components.get(kind, component_id)
        options = StartOptions(
            session_id=body.thread_id, run_id=body.run_id, on_disconnect=on_disconnect, disconnect_grace=away
        )
        pending = await service.start(component, parse_input(component, body.text()), options, caller)
        return await agui_stream(api, await service.runs.find(pending.run_id, caller), caller, starts=True)
