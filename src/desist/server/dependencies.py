"""Shared by all routes: the caller and its scopes, responses, and the errors listed in the OpenAPI schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from desist.cancel.registry import registry
from desist.run.records.json_values import dump
from desist.server.components import Component, input_type_of
from desist.server.event_stream import EVENT_STREAM, EventStream, Frame, StreamContext, StreamLimiter, client_left
from desist.server.problems import PROBLEM, HTTPProblem
from desist.server.run_service import RunService
from desist.server.stack_redaction import without_stacks
from desist.server.tokens import Caller
from desist.streams.follower import Follower

__all__ = ["ApiContext", "JSONValueResponse", "MayCancel", "MayRead", "MayRun", "parse_input", "problems", "streamed"]

_DESCRIPTIONS = {
    400: "A header is malformed.",
    401: "The token is missing or unknown.",
    403: "The token lacks the scope, or the request came from another origin.",
    404: "Not found, or the caller may not see it.",
    409: "The state of the run or session does not allow this.",
    410: "These events are no longer stored.",
    413: "The body is too large.",
    422: "The request is invalid.",
    429: "Too many live runs or open streams.",
    503: "The server is shutting down, or its database is unavailable.",
}


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, for the OpenAPI schema."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        code: {"description": _DESCRIPTIONS[code], "content": content}
        for code in sorted({400, 401, 403, 422, 503, *more})
    }


def streamed(detail: str) -> dict[str, Any]:
    """Return a response with an event stream, for the OpenAPI schema."""
    return {"description": detail, "content": {EVENT_STREAM: {"schema": {}}}}


def parse_input(component: Component, text: str) -> Any:
    """Return the input for a component: the text itself, or parsed as JSON if the component has an input schema.

    Raises:
        HTTPProblem: 422 if the text must be JSON and is not.
    """
    if input_type_of(component) is None:
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise HTTPProblem(422, "message: the JSON is nested too deeply") from None
    except ValueError:
        raise HTTPProblem(422, "message must be JSON, because this workflow has an input schema") from None


def _needs(scope: str) -> Callable[[Request], Caller]:
    def check(request: Request) -> Caller:
        caller: Caller = request.scope["desist.caller"]
        if scope not in caller.scopes:
            raise HTTPProblem(403, f"this request needs a token with the scope '{scope}'")
        return caller

    return check


MayRead = Annotated[Caller, Depends(_needs("read"))]
MayRun = Annotated[Caller, Depends(_needs("run"))]
MayCancel = Annotated[Caller, Depends(_needs("cancel"))]


class JSONValueResponse(Response):
    """Any JSON value as a response, without stacks."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return without_stacks(dump(content))


class ApiContext:
    """What every route uses: the run service, and the limit on streams."""

    def __init__(self, service: RunService) -> None:
        self.service = service
        self.streams = StreamLimiter(service.limits.streams)

    def stream(
        self, follower: Follower[Any], frame: Frame, caller: Caller, *, retry: bool = True, starts: bool = False
    ) -> EventStream:
        """Return the response with the events of a run.

        Parameters:
            starts: the client counts as the one that started the run: `on_disconnect` applies when it leaves.
        """
        context = StreamContext(followers=self.service.followers, streams=self.streams, caller=caller, starts=starts)
        return EventStream(follower, frame, limits=self.service.limits, context=context, retry=retry)

    async def stream_started(self, run_id: str, frame: Frame, caller: Caller, *, retry: bool = True) -> EventStream:
        """Return the response with all events of a run that this request started."""
        found = await self.service.runs.find(run_id, caller)
        return self.stream(await self.service.follow(found, None), frame, caller, retry=retry, starts=True)

    async def wait(self, request: Request, run_id: str, caller: Caller) -> None:
        """Wait until a run that this request started has settled. The client counts as present meanwhile.

        Returns early if the client leaves, because nobody reads the response then.
        """
        run: Any = registry.get(run_id)
        if run is None:
            return
        self.service.followers.joined(run_id, caller, starts=True)
        ended = asyncio.ensure_future(run.settled.wait_async())
        left = asyncio.ensure_future(client_left(request.receive))
        try:
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.service.followers.left(run_id, caller, lost=not ended.done())
            ended.cancel()
            left.cancel()
