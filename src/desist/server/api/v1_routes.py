"""`/v1/runs`: the server's own face. Receipts with what became of them, streams to come back to, problems as JSON."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt
from desist.cancel.registry import registry
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.exceptions import RunStateError
from desist.run.observability.live import cancel_live, runs
from desist.run.observability.summary import receipt_summary
from desist.run.storage.values import CancelRequest, RunQuery
from desist.runtime.daemon_thread import to_daemon_thread
from desist.server.api.v1_schemas import (
    BulkCancelRequest,
    BulkResult,
    CancelRequestBody,
    ContinueRequest,
    Id,
    Receipt,
    RunDetail,
    RunId,
    RunInfo,
    RunPage,
    Seconds,
    StartRequest,
    info,
    run_detail,
)
from desist.server.components import Component, Kind
from desist.server.dependencies import ApiContext, JSONValueResponse, MayCancel, MayRead, MayRun, problems, streamed
from desist.server.event_stream import EventStream, indexed
from desist.server.problems import HTTPProblem
from desist.server.protocols.agui.routes import agui_stream
from desist.server.run_service import RunService, StartOptions
from desist.server.tokens import Caller

__all__ = ["v1_routes"]

_STARTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It is started, and lives by itself.",
        "model": RunInfo,
        "headers": {"Location": {"description": "Where the run is.", "schema": {"type": "string"}}},
    },
    200: streamed("With `stream`: its events, as from `/v1/runs/{run_id}/events`."),
}
LastEvent = Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, le=2**53)]
After = Annotated[
    int | None, Query(ge=-1, le=2**53, description="The same as `Last-Event-ID`, for clients that can't send it.")
]
_PRESENT = (
    "Count this client's leaving as that of the starter, for `on_disconnect`. Needs `cancel`, or to be the starter."
)
Format = Annotated[
    Literal["desist", "agui"], Query(description="`agui`: as events of AG-UI 1.0, always from the beginning.")
]


def v1_routes(api: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1", tags=["runs"])
    for add in (_starting, _looking, _following, _stopping):
        add(routes, api)
    return routes


def _starting(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.post("/runs", status_code=202, response_model=None, responses=_STARTED | problems(404, 409, 413, 429))
    async def start_run(body: StartRequest, caller: MayRun) -> Response:
        """Start a run. It lives on the server: its client may leave and come back."""
        kind, name = _named(body)
        if body.stream:
            api.streams.check(caller)
        wish = StartOptions(
            session_id=body.session_id,
            user_id=body.user_id,
            on_disconnect=body.on_disconnect,
            disconnect_grace=body.away,
            options=body.options(),
        )
        pending = await service.start(service.components.get(kind, name), body.input, wish, caller)
        return await _begun(api, pending.run_id, caller, stream=body.stream)

    @routes.post(
        "/runs/{run_id}/continue",
        status_code=202,
        response_model=None,
        responses=_STARTED | problems(404, 409, 413, 429),
    )
    async def continue_run(run_id: RunId, body: ContinueRequest, caller: MayRun) -> Response:
        """Go on with a run that was cancelled or has failed: a new run, which takes over what had finished."""
        if body.stream:
            api.streams.check(caller)
        found = await service.runs.find(run_id, caller)
        wish = StartOptions(on_disconnect=body.on_disconnect, disconnect_grace=body.away, options=body.options())
        pending = await service.continue_run(found, wish, caller)
        return await _begun(api, pending.run_id, caller, stream=body.stream)


def _named(body: StartRequest) -> tuple[Kind, str]:
    return ("workflow", body.workflow) if body.workflow is not None else ("agent", body.agent or "")


async def _begun(api: ApiContext, run_id: str, caller: Caller, *, stream: bool) -> Response:
    if stream:
        return await api.stream_started(run_id, indexed(run_id), caller)
    found = await api.service.runs.find(run_id, caller)
    return JSONValueResponse(info(found), 202, {"Location": f"/v1/runs/{run_id}"})


def _looking(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.get("/runs", response_model=RunPage, responses=problems())
    async def list_runs(
        caller: MayRead,
        status: RunStatus | None = None,
        workflow: Id | None = None,
        agent: Id | None = None,
        session_id: Id | None = None,
        user_id: Id | None = None,
        older_than: Annotated[Seconds | None, Query(description="Only runs that began so many seconds ago.")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=400, description="`next` of the page before.")] = None,
    ) -> Response:
        """List runs that weren't started in another one, live ones too, the newest first."""
        query = RunQuery(
            owners=_owners(service, workflow, agent),
            session_id=session_id,
            user_id=user_id,
            status=status,
            created_before=None if older_than is None else time.time() - older_than,
            after=None if cursor is None else _decoded(cursor),
            limit=limit + 1,
        )
        found = await service.runs.list(query, caller)
        page, more = found[:limit], len(found) > limit
        shown = [info(run, service.followers.followers(run.run_id)) for run in page]
        return JSONValueResponse(
            {"runs": shown, "next": _encoded(page[-1].created_at, page[-1].run_id) if more else None}
        )

    @routes.get("/runs/{run_id}", response_model=RunDetail, responses=problems(404))
    async def get_run(run_id: RunId, caller: MayRead) -> Response:
        """Look at a run: how it stands, and what came of it so far."""
        found = await service.runs.find(run_id, caller)
        return JSONValueResponse(run_detail(found, service.followers.followers(run_id)))


def _owners(service: RunService, workflow: str | None, agent: str | None) -> frozenset[tuple[str, str]] | None:
    """Return whose runs are asked for; an id that isn't served has none."""
    if workflow is None and agent is None:
        return None
    asked = (("workflow", workflow), ("agent", agent))
    return service.components.owners & {(kind, name) for kind, name in asked if name is not None}


def _encoded(created_at: float, run_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at!r} {run_id}".encode()).decode()


def _decoded(cursor: str) -> tuple[float, str]:
    try:
        at, _, run_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return float(at), run_id
    except (ValueError, binascii.Error):
        raise HTTPProblem(422, "cursor isn't one that a page gave as `next`") from None


def _following(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.get(
        "/runs/{run_id}/events",
        response_model=None,
        responses={
            200: streamed("The events, from the beginning or after the one named; `id` is their sequence."),
            204: {"description": "Everything was seen already, the end too: don't come back."},
            **problems(404, 409, 410, 429),
        },
    )
    async def run_events(
        run_id: RunId,
        caller: MayRead,
        last_event_id: LastEvent = None,
        after: After = None,
        format: Format = "desist",
        present: Annotated[bool, Query(description=_PRESENT)] = False,
    ) -> Response:
        """Read along. Leave at any time, and come back with the `id` of the last event that was seen."""
        api.streams.check(caller)
        found = await service.runs.find(run_id, caller)
        if present and not service.followers.may_end(run_id, caller):
            raise HTTPProblem(403, "present=true needs the scope 'cancel', or the token that has started the run")
        if format == "agui":
            if (last_event_id, after) != (None, None):
                raise HTTPProblem(422, "format=agui is told from the beginning: leave Last-Event-ID and after out")
            return await agui_stream(api, found, caller, starts=present)
        follower = await service.follow(found, after if last_event_id is None else last_event_id)
        if follower.cursor.at_end:
            return Response(status_code=204)
        stream: EventStream = api.stream(follower, indexed(run_id), caller, starts=present)
        return stream


def _stopping(routes: APIRouter, api: ApiContext) -> None:
    service = api.service
    answers: dict[int | str, dict[str, Any]] = {
        202: {"description": "Accepted: the run ends CANCELLED.", "model": Receipt},
        200: {"description": "It was cancelled before: the same receipt.", "model": Receipt},
    }

    @routes.post(
        "/runs/{run_id}/cancel", status_code=202, response_model=None, responses=answers | problems(404, 409, 413)
    )
    async def cancel_run(
        run_id: RunId,
        caller: MayCancel,
        body: CancelRequestBody | None = None,
        wait: Annotated[Seconds, Query(description="Seconds to wait for its end, before answering.")] = 0,
    ) -> Response:
        """Stop a run, by any id of its tree. The decision is made before this answers; see the receipt."""
        how = (body or CancelRequestBody()).model_dump()
        how["by"] = _by(how["by"], caller)
        receipt = await service.cancel(run_id, caller, **how)
        if wait > 0 and receipt:
            await service.settle(receipt, wait)
        return _event_response(receipt)

    @routes.post("/runs/cancel", response_model=BulkResult, responses=problems(413))
    async def cancel_runs(body: BulkCancelRequest, caller: MayCancel) -> Response:
        """Stop many live runs; with `dry_run` only say which it would be."""
        why = CancelReason(source=Source.user, text=body.reason, by=_by(body.by, caller))
        how = CancelRequest(reason=why, grace=body.grace, force=body.force)

        def work() -> tuple[list[str], list[CancelReceipt]]:
            doomed = _chosen(service, body, caller)
            return doomed, [] if body.dry_run else cancel_live(doomed, how)

        doomed, receipts = await to_daemon_thread(work, "desist-bulk-cancel")  # it may be thousands: not on this loop
        told = [receipt_summary(receipt) for receipt in receipts]
        return JSONValueResponse({"dry_run": body.dry_run, "count": len(doomed), "run_ids": doomed, "receipts": told})


def _by(requester: str | None, caller: Caller) -> str | None:
    """Return who asks: what the client says of itself never stands without the name of its token."""
    if caller.name is None:
        return requester
    return caller.name if requester is None else f"{requester} (token {caller.name})"


def _event_response(receipt: CancelReceipt) -> Response:
    if receipt.outcome is Outcome.finished:
        status = receipt.status.value if receipt.status is not None else ""
        raise HTTPProblem(409, f"the run has ended already: {status}", run_id=receipt.run_id, run_status=status)
    if receipt.outcome is Outcome.unknown:
        raise RunStateError("the run was forgotten meanwhile")
    return JSONValueResponse(receipt_summary(receipt), 202 if receipt.outcome is Outcome.accepted else 200)


def _chosen(service: RunService, body: BulkCancelRequest, caller: Caller) -> list[str]:
    """Return the ids of the live trees that are meant and that the caller may see."""
    wanted = _owners(service, body.workflow, body.agent)
    found = runs(session_id=body.session_id, user_id=body.user_id, older_than=body.older_than)
    return [
        run.run_id
        for run in found
        if run.is_root
        and (body.run_ids is None or run.run_id in body.run_ids)
        and caller.owner in (None, run.user_id)
        and _component(service, run.run_id, run.kind) is not None
        and (wanted is None or _component(service, run.run_id, run.kind) in wanted)
    ]


def _component(service: RunService, run_id: str, kind: str) -> tuple[str, str] | None:
    run: Any = registry.get(run_id)
    if run is None:
        return None
    found: Component | None = service.components.find(kind, getattr(run.body.output, f"{kind}_id", None))
    return None if found is None else (kind, found.id)
