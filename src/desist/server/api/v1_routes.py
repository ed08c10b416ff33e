"""`/v1/runs`: desist's own API, with complete receipts, resumable streams and problems as JSON."""

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
    run_detail,
    run_info,
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
        "description": "The run was started in the background.",
        "model": RunInfo,
        "headers": {"Location": {"description": "The path of the run.", "schema": {"type": "string"}}},
    },
    200: streamed("With `stream`: the events, as from `/v1/runs/{run_id}/events`."),
}
LastEvent = Annotated[int | None, Header(alias="Last-Event-ID", ge=-1, le=2**53)]
After = Annotated[
    int | None, Query(ge=-1, le=2**53, description="Same as `Last-Event-ID`, for clients that can't set headers.")
]
_PRESENT = (
    "For `on_disconnect`, count this client as the one that started the run. Needs the scope `cancel`, or its token."
)
Format = Annotated[
    Literal["desist", "agui"], Query(description="`agui`: events of AG-UI 1.0, always from the beginning.")
]


def v1_routes(api: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1", tags=["runs"])
    for add in (_start_routes, _read_routes, _event_routes, _cancel_routes):
        add(routes, api)
    return routes


def _start_routes(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.post("/runs", status_code=202, response_model=None, responses=_STARTED | problems(404, 409, 413, 429))
    async def start_run(body: StartRequest, caller: MayRun) -> Response:
        """Start a run in the background. The client may disconnect and reconnect."""
        kind, name = _target(body)
        if body.stream:
            api.streams.check(caller)
        options = StartOptions(
            session_id=body.session_id,
            user_id=body.user_id,
            on_disconnect=body.on_disconnect,
            disconnect_grace=body.away,
            options=body.options(),
        )
        pending = await service.start(service.components.get(kind, name), body.input, options, caller)
        return await _start_response(api, pending.run_id, caller, stream=body.stream)

    @routes.post(
        "/runs/{run_id}/continue",
        status_code=202,
        response_model=None,
        responses=_STARTED | problems(404, 409, 413, 429),
    )
    async def continue_run(run_id: RunId, body: ContinueRequest, caller: MayRun) -> Response:
        """Continue a cancelled or failed run as a new run, which keeps the finished steps."""
        if body.stream:
            api.streams.check(caller)
        found = await service.runs.find(run_id, caller)
        options = StartOptions(on_disconnect=body.on_disconnect, disconnect_grace=body.away, options=body.options())
        pending = await service.continue_run(found, options, caller)
        return await _start_response(api, pending.run_id, caller, stream=body.stream)


def _target(body: StartRequest) -> tuple[Kind, str]:
    return ("workflow", body.workflow) if body.workflow is not None else ("agent", body.agent or "")


async def _start_response(api: ApiContext, run_id: str, caller: Caller, *, stream: bool) -> Response:
    if stream:
        return await api.stream_started(run_id, indexed(run_id), caller)
    found = await api.service.runs.find(run_id, caller)
    return JSONValueResponse(run_info(found), 202, {"Location": f"/v1/runs/{run_id}"})


def _read_routes(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.get("/runs", response_model=RunPage, responses=problems())
    async def list_runs(
        caller: MayRead,
        status: RunStatus | None = None,
        workflow: Id | None = None,
        agent: Id | None = None,
        session_id: Id | None = None,
        user_id: Id | None = None,
        older_than: Annotated[
            Seconds | None, Query(description="Only runs that started at least this many seconds ago.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=400, description="`next` of the previous page.")] = None,
    ) -> Response:
        """List runs, newest first. Runs inside other runs are not listed."""
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
        shown = [run_info(run, service.followers.followers(run.run_id)) for run in page]
        return JSONValueResponse(
            {"runs": shown, "next": _encoded(page[-1].created_at, page[-1].run_id) if more else None}
        )

    @routes.get("/runs/{run_id}", response_model=RunDetail, responses=problems(404))
    async def get_run(run_id: RunId, caller: MayRead) -> Response:
        """Return a run: its status, and its output so far."""
        found = await service.runs.find(run_id, caller)
        return JSONValueResponse(run_detail(found, service.followers.followers(run_id)))


def _owners(service: RunService, workflow: str | None, agent: str | None) -> frozenset[tuple[str, str]] | None:
    """Return the components to filter by, or None for all. Ids that are not served match nothing."""
    if workflow is None and agent is None:
        return None
    named = (("workflow", workflow), ("agent", agent))
    return service.components.owners & {(kind, name) for kind, name in named if name is not None}


def _encoded(created_at: float, run_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at!r} {run_id}".encode()).decode()


def _decoded(cursor: str) -> tuple[float, str]:
    try:
        at, _, run_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return float(at), run_id
    except (ValueError, binascii.Error):
        raise HTTPProblem(422, "cursor is invalid: use the value of `next` from the previous page") from None


def _event_routes(routes: APIRouter, api: ApiContext) -> None:
    service = api.service

    @routes.get(
        "/runs/{run_id}/events",
        response_model=None,
        responses={
            200: streamed("The events, from the beginning or after the given one; `id` is the event index."),
            204: {"description": "All events were received, including the last one: do not reconnect."},
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
        """Follow a run. Clients may disconnect at any time, and resume with the `id` of the last event received."""
        api.streams.check(caller)
        found = await service.runs.find(run_id, caller)
        if present and not service.followers.may_end(run_id, caller):
            raise HTTPProblem(
                403, "present=true needs a token with the scope 'cancel', or the token that started the run"
            )
        if format == "agui":
            if (last_event_id, after) != (None, None):
                raise HTTPProblem(422, "format=agui always starts at the beginning: leave Last-Event-ID and after out")
            return await agui_stream(api, found, caller, starts=present)
        follower = await service.follow(found, after if last_event_id is None else last_event_id)
        if follower.cursor.at_end:
            return Response(status_code=204)
        stream: EventStream = api.stream(follower, indexed(run_id), caller, starts=present)
        return stream


def _cancel_routes(routes: APIRouter, api: ApiContext) -> None:
    service = api.service
    answers: dict[int | str, dict[str, Any]] = {
        202: {"description": "Accepted: the run will end CANCELLED.", "model": Receipt},
        200: {"description": "Already cancelled: the same receipt.", "model": Receipt},
    }

    @routes.post(
        "/runs/{run_id}/cancel", status_code=202, response_model=None, responses=answers | problems(404, 409, 413)
    )
    async def cancel_run(
        run_id: RunId,
        caller: MayCancel,
        body: CancelRequestBody | None = None,
        wait: Annotated[Seconds, Query(description="Seconds to wait for the run to settle before responding.")] = 0,
    ) -> Response:
        """Cancel a run by any id of its tree. The outcome is decided before the response; see the receipt."""
        options = (body or CancelRequestBody()).model_dump()
        options["by"] = _by(options["by"], caller)
        receipt = await service.cancel(run_id, caller, **options)
        if wait > 0 and receipt:
            await service.settle(receipt, wait)
        return _cancel_response(receipt)

    @routes.post("/runs/cancel", response_model=BulkResult, responses=problems(413))
    async def cancel_runs(body: BulkCancelRequest, caller: MayCancel) -> Response:
        """Cancel many live runs. With `dry_run`, only list them."""
        reason = CancelReason(source=Source.user, text=body.reason, by=_by(body.by, caller))
        request = CancelRequest(reason=reason, grace=body.grace, force=body.force)

        def work() -> tuple[list[str], list[CancelReceipt]]:
            run_ids = _matching_runs(service, body, caller)
            return run_ids, [] if body.dry_run else cancel_live(run_ids, request)

        run_ids, receipts = await to_daemon_thread(work, "desist-bulk-cancel")  # in a thread: there may be thousands
        summaries = [receipt_summary(receipt) for receipt in receipts]
        return JSONValueResponse(
            {"dry_run": body.dry_run, "count": len(run_ids), "run_ids": run_ids, "receipts": summaries}
        )


def _by(requester: str | None, caller: Caller) -> str | None:
    """Return the requester to record. A name that the client gives is always followed by the name of its token."""
    if caller.name is None:
        return requester
    return caller.name if requester is None else f"{requester} (token {caller.name})"


def _cancel_response(receipt: CancelReceipt) -> Response:
    if receipt.outcome is Outcome.finished:
        status = receipt.status.value if receipt.status is not None else ""
        raise HTTPProblem(409, f"the run has already ended: {status}", run_id=receipt.run_id, run_status=status)
    if receipt.outcome is Outcome.unknown:
        raise RunStateError("the run was removed in the meantime")
    return JSONValueResponse(receipt_summary(receipt), 202 if receipt.outcome is Outcome.accepted else 200)


def _matching_runs(service: RunService, body: BulkCancelRequest, caller: Caller) -> list[str]:
    """Return the ids of the live root runs that match the request and that the caller may see."""
    owners = _owners(service, body.workflow, body.agent)
    found = runs(session_id=body.session_id, user_id=body.user_id, older_than=body.older_than)
    return [
        run.run_id
        for run in found
        if run.is_root
        and (body.run_ids is None or run.run_id in body.run_ids)
        and caller.owner in (None, run.user_id)
        and _component(service, run.run_id, run.kind) is not None
        and (owners is None or _component(service, run.run_id, run.kind) in owners)
    ]


def _component(service: RunService, run_id: str, kind: str) -> tuple[str, str] | None:
    run: Any = registry.get(run_id)
    if run is None:
        return None
    found: Component | None = service.components.find(kind, getattr(run.body.output, f"{kind}_id", None))
    return None if found is None else (kind, found.id)
