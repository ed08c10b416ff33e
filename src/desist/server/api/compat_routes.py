"""`/agents` and `/workflows`: routes that are compatible with the API that desist follows.

Form fields, frames and JSON are those of that API. `/v1` has more features. Unsupported fields are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from desist.cancel.status import RunStatus
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import RunQuery
from desist.server.api.v1_schemas import Id, RunId
from desist.server.components import Component, Kind, input_type_of
from desist.server.dependencies import (
    ApiContext,
    JSONValueResponse,
    MayCancel,
    MayRead,
    MayRun,
    parse_input,
    problems,
    streamed,
)
from desist.server.event_stream import EventStream, indexed, inline
from desist.server.problems import HTTPProblem
from desist.server.run_service import StartOptions
from desist.server.tokens import Caller

__all__ = ["compat_routes"]

_RUN = {"description": "The output of the run.", "content": {"application/json": {"schema": {"type": "object"}}}}
_ENDED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `stream` the events, else the output after the end of the run.",
        "content": {
            "text/event-stream": {"schema": {}},
            "application/json": {"schema": {"type": "object"}},
        },
    },
}


class PendingRun(BaseModel):
    """A background run before its start."""

    run_id: str
    session_id: str | None
    status: RunStatus


_ENDED[202] = {"description": "With `background` and without `stream`.", "model": PendingRun}


class _RunOptionsForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stream: bool = Field(default=True, description="Respond with events.")
    session_id: Id | None = None
    user_id: Id | None = None
    background: bool = Field(default=False, description="Continue the run without its client.")


class RunForm(_RunOptionsForm):
    """A run to start."""

    message: str = Field(description="The input; JSON for a workflow with an input schema.")


class ContinueForm(_RunOptionsForm):
    """Options to continue a run."""


class ResumeForm(BaseModel):
    """The position from which to follow a background run."""

    model_config = ConfigDict(extra="forbid")
    last_event_index: Annotated[int, Field(ge=-1, le=2**53)] | None = None
    session_id: Id | None = None


def compat_routes(api: ApiContext, kind: Kind) -> APIRouter:
    """Return the routes of workflows or agents."""
    routes = APIRouter(prefix=f"/{kind}s", tags=[f"{kind}s"])
    _component_routes(routes, api, kind)
    _start_routes(routes, api, kind)
    _read_routes(routes, api, kind)
    _cancel_routes(routes, api, kind)
    return routes


def _component_routes(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    known = api.service.components

    @routes.get("", operation_id=f"list_{kind}s", responses=problems())
    async def list_components(caller: MayRead) -> list[dict[str, Any]]:
        """List the served components."""
        return [_described(one) for one in known.of_kind(kind)]

    @routes.get("/{component_id}", operation_id=f"get_{kind}", responses=problems(404))
    async def get_component(component_id: str, caller: MayRead) -> dict[str, Any]:
        """Describe a component."""
        return _described(known.get(kind, component_id))


def _described(one: Component) -> dict[str, Any]:
    input_type = input_type_of(one)
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        **({"input_schema": input_type.schema} if input_type is not None else {}),
    }


def _start_routes(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.post(
        "/{component_id}/runs",
        operation_id=f"run_{kind}",
        response_model=None,
        responses=_ENDED | problems(404, 409, 413, 429),
    )
    async def start_run(
        component_id: str, form: Annotated[RunForm, Form()], request: Request, caller: MayRun
    ) -> Response:
        """Start a run. Without `background`, the run is cancelled some seconds after its client has disconnected."""
        component = service.components.get(kind, component_id)
        if form.stream:
            api.streams.check(caller)
        pending = await service.start(component, parse_input(component, form.message), _start_options(form), caller)
        return await _start_response(api, pending, form, request, caller)

    @routes.post(
        "/{component_id}/runs/{run_id}/continue",
        operation_id=f"continue_{kind}_run",
        response_model=None,
        responses=_ENDED | problems(404, 409, 413, 429),
    )
    async def continue_run(
        component_id: str, run_id: RunId, form: Annotated[ContinueForm, Form()], request: Request, caller: MayRun
    ) -> Response:
        """Continue a cancelled or failed run as a new run."""
        found = await _found(api, kind, component_id, run_id, form.session_id, caller)
        if form.stream:
            api.streams.check(caller)
        pending = await service.continue_run(found, _start_options(form), caller)
        return await _start_response(api, pending, form, request, caller)


def _start_options(form: _RunOptionsForm) -> StartOptions:
    on_disconnect: Literal["continue", "cancel"] = "continue" if form.background else "cancel"
    return StartOptions(session_id=form.session_id, user_id=form.user_id, on_disconnect=on_disconnect)


async def _start_response(
    api: ApiContext, pending: Any, form: _RunOptionsForm, request: Request, caller: Caller
) -> Response:
    run_id = pending.run_id
    if form.stream:
        frame = indexed(run_id) if form.background else inline
        return await api.stream_started(run_id, frame, caller, retry=False)
    if form.background:
        queued = {"run_id": run_id, "session_id": pending.session_id, "status": RunStatus.pending.value}
        return JSONValueResponse(queued, 202)
    await api.wait(request, run_id, caller)
    found = await api.service.runs.find(run_id, caller)
    return JSONValueResponse(to_json_value(found.output))


async def _found(
    api: ApiContext, kind: Kind, component_id: str, run_id: str, session_id: str | None, caller: Caller
) -> Any:
    api.service.components.get(kind, component_id)
    found = await api.service.runs.find(run_id, caller)
    if (found.kind, found.owner_id) != (kind, component_id) or session_id not in (None, found.session_id):
        raise HTTPProblem(404, "there is no run with this id")
    return found


def _read_routes(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.get("/{component_id}/runs", operation_id=f"list_{kind}_runs", responses=problems(404))
    async def list_runs(
        component_id: str,
        caller: MayRead,
        session_id: Id | None = None,
        status: RunStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> list[dict[str, Any]]:
        """List the latest runs, oldest first."""
        service.components.get(kind, component_id)
        owners = frozenset({(kind, component_id)})
        query = RunQuery(owners=owners, session_id=session_id, status=status, limit=limit)
        return [to_json_value(run.output) for run in reversed(await service.runs.list(query, caller))]

    @routes.get(
        "/{component_id}/runs/{run_id}",
        operation_id=f"get_{kind}_run",
        response_model=None,
        responses={200: _RUN, **problems(404)},
    )
    async def get_run(component_id: str, run_id: RunId, caller: MayRead, session_id: Id | None = None) -> Response:
        """Return the output of a run."""
        found = await _found(api, kind, component_id, run_id, session_id, caller)
        return JSONValueResponse(to_json_value(found.output))

    @routes.post(
        "/{component_id}/runs/{run_id}/resume",
        operation_id=f"resume_{kind}_run",
        response_model=None,
        responses={200: streamed("The events after the given one."), **problems(404, 409, 410, 413, 429)},
    )
    async def resume_run(
        component_id: str, run_id: RunId, form: Annotated[ResumeForm, Form()], caller: MayRead
    ) -> Response:
        """Follow a background run after the given event."""
        api.streams.check(caller)
        found = await _found(api, kind, component_id, run_id, form.session_id, caller)
        follower = await service.follow(found, form.last_event_index)
        stream: EventStream = api.stream(follower, indexed(run_id), caller, retry=False)
        return stream


def _cancel_routes(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.post(
        "/{component_id}/runs/{run_id}/cancel", operation_id=f"cancel_{kind}_run", responses=problems(404, 413)
    )
    async def cancel_run(
        component_id: str, run_id: RunId, caller: MayCancel, session_id: Id | None = None
    ) -> dict[str, Any]:
        """Cancel a run. Returns `{}` for any run id, as clients of this API expect; `/v1` returns a receipt."""
        service.components.get(kind, component_id)
        try:
            await service.cancel(run_id, caller, by=caller.name)
        except HTTPProblem as problem:
            if problem.status not in (404, 409):
                raise
        return {}
