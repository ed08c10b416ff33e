"""`/agents` and `/workflows`: the face that clients of the API which we follow know. Form fields, its frames, its JSON.

Where it says less than `/v1`, clients that want more use that. What isn't supported of it is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from desist.cancel.status import RunStatus
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import RunQuery
from desist.server.api.v1_schemas import Id, RunId
from desist.server.components import Component, Kind
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

_RUN = {"description": "The run: its output.", "content": {"application/json": {"schema": {"type": "object"}}}}
_ENDED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `stream` its events, else its output when it has ended.",
        "content": {
            "text/event-stream": {"schema": {}},
            "application/json": {"schema": {"type": "object"}},
        },
    },
}


class PendingRun(BaseModel):
    """A run in the background, as it was before it began."""

    run_id: str
    session_id: str | None
    status: RunStatus


_ENDED[202] = {"description": "With `background`, and not `stream`.", "model": PendingRun}


class _RunOptionsForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stream: bool = Field(default=True, description="Answer with events.")
    session_id: Id | None = None
    user_id: Id | None = None
    background: bool = Field(default=False, description="Let the run go on without its client.")


class RunForm(_RunOptionsForm):
    """A run to start."""

    message: str = Field(description="What it is asked; for a workflow with an input schema, JSON.")


class ContinueForm(_RunOptionsForm):
    """How to go on with a run."""


class ResumeForm(BaseModel):
    """From where on to read a run in the background."""

    model_config = ConfigDict(extra="forbid")
    last_event_index: Annotated[int, Field(ge=-1, le=2**53)] | None = None
    session_id: Id | None = None


def compat_routes(api: ApiContext, kind: Kind) -> APIRouter:
    """Return the routes of a kind."""
    routes = APIRouter(prefix=f"/{kind}s", tags=[f"{kind}s"])
    _components(routes, api, kind)
    _starting(routes, api, kind)
    _looking(routes, api, kind)
    _stopping(routes, api, kind)
    return routes


def _components(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    known = api.service.components

    @routes.get("", operation_id=f"list_{kind}s", responses=problems())
    async def list_components(caller: MayRead) -> list[dict[str, Any]]:
        """List what there is."""
        return [_described(one) for one in known.of_kind(kind)]

    @routes.get("/{component_id}", operation_id=f"get_{kind}", responses=problems(404))
    async def get_component(component_id: str, caller: MayRead) -> dict[str, Any]:
        """Describe one."""
        return _described(known.get(kind, component_id))


def _described(one: Component) -> dict[str, Any]:
    schema = getattr(one, "input_schema", None)
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        **({"input_schema": schema.model_json_schema()} if schema is not None else {}),
    }


def _starting(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
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
        """Start a run. Without `background` it is cancelled when its client has been lost for a while."""
        component = service.components.get(kind, component_id)
        if form.stream:
            api.streams.check(caller)
        pending = await service.start(component, parse_input(component, form.message), _start_options(form), caller)
        return await _answered(api, pending, form, request, caller)

    @routes.post(
        "/{component_id}/runs/{run_id}/continue",
        operation_id=f"continue_{kind}_run",
        response_model=None,
        responses=_ENDED | problems(404, 409, 413, 429),
    )
    async def continue_run(
        component_id: str, run_id: RunId, form: Annotated[ContinueForm, Form()], request: Request, caller: MayRun
    ) -> Response:
        """Go on with a run that was cancelled or has failed: a new run."""
        found = await _found(api, kind, component_id, run_id, form.session_id, caller)
        if form.stream:
            api.streams.check(caller)
        pending = await service.continue_run(found, _start_options(form), caller)
        return await _answered(api, pending, form, request, caller)


def _start_options(form: _RunOptionsForm) -> StartOptions:
    leaving: Literal["continue", "cancel"] = "continue" if form.background else "cancel"
    return StartOptions(session_id=form.session_id, user_id=form.user_id, on_disconnect=leaving)


async def _answered(api: ApiContext, pending: Any, form: _RunOptionsForm, request: Request, caller: Caller) -> Response:
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


def _looking(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.get("/{component_id}/runs", operation_id=f"list_{kind}_runs", responses=problems(404))
    async def list_runs(
        component_id: str,
        caller: MayRead,
        session_id: Id | None = None,
        status: RunStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> list[dict[str, Any]]:
        """List the last runs, the oldest first."""
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
        """Look at a run."""
        found = await _found(api, kind, component_id, run_id, session_id, caller)
        return JSONValueResponse(to_json_value(found.output))

    @routes.post(
        "/{component_id}/runs/{run_id}/resume",
        operation_id=f"resume_{kind}_run",
        response_model=None,
        responses={200: streamed("The events after the one named."), **problems(404, 409, 410, 413, 429)},
    )
    async def resume_run(
        component_id: str, run_id: RunId, form: Annotated[ResumeForm, Form()], caller: MayRead
    ) -> Response:
        """Read a run in the background, from an event on."""
        api.streams.check(caller)
        found = await _found(api, kind, component_id, run_id, form.session_id, caller)
        follower = await service.follow(found, form.last_event_index)
        stream: EventStream = api.stream(follower, indexed(run_id), caller, retry=False)
        return stream


def _stopping(routes: APIRouter, api: ApiContext, kind: Kind) -> None:
    service = api.service

    @routes.post(
        "/{component_id}/runs/{run_id}/cancel", operation_id=f"cancel_{kind}_run", responses=problems(404, 413)
    )
    async def cancel_run(
        component_id: str, run_id: RunId, caller: MayCancel, session_id: Id | None = None
    ) -> dict[str, Any]:
        """Stop a run. `{}` for any run id, as clients of this face expect; `/v1` answers with a receipt."""
        service.components.get(kind, component_id)
        try:
            await service.cancel(run_id, caller, by=caller.name)
        except HTTPProblem as refused:
            if refused.status not in (404, 409):
                raise
        return {}
