"""What both faces share about requests: who asks, with which scope, and what errors the OpenAPI tells of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from desist.cancel.registry import registry
from desist.run.records.json_values import dump
from desist.server.components import Component
from desist.server.event_stream import EVENT_STREAM, EventStream, Frame, StreamContext, StreamLimiter
from desist.server.problems import PROBLEM, HTTPProblem
from desist.server.run_service import RunService
from desist.server.stack_redaction import without_stacks
from desist.server.tokens import Caller
from desist.streams.follower import Follower

__all__ = ["ApiContext", "JSONValueResponse", "MayCancel", "MayRead", "MayRun", "parse_input", "problems", "streamed"]

_WORDS = {
    400: "A header is malformed.",
    401: "No token, or one that isn't known.",
    403: "The token isn't good for this, or the request came from another site.",
    404: "There is none, or none that the caller may see.",
    409: "The run, or the session, stands otherwise.",
    410: "These events aren't kept any more.",
    413: "The body is too big.",
    422: "The request can't be used.",
    429: "Too many runs, or streams.",
    503: "The server is ending, or its database fails.",
}


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route, for the OpenAPI."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        code: {"description": _WORDS[code], "content": content} for code in sorted({400, 401, 403, 422, 503, *more})
    }


def streamed(detail: str) -> dict[str, Any]:
    """Return a stream of events as a response, for the OpenAPI."""
    return {"description": detail, "content": {EVENT_STREAM: {"schema": {}}}}


def parse_input(component: Component, text: str) -> Any:
    """Return what a text asks of a component: itself, or what it says as JSON where there is an input schema.

    Raises:
        Refused: with 422: it isn't JSON.
    """
    if getattr(component, "input_schema", None) is None:
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise HTTPProblem(422, "message: this JSON is nested too deep") from None
    except ValueError:
        raise HTTPProblem(422, "message: this workflow has an input schema, so it must be JSON") from None


def _needs(scope: str) -> Callable[[Request], Caller]:
    def check(request: Request) -> Caller:
        caller: Caller = request.scope["desist.caller"]
        if scope not in caller.scopes:
            raise HTTPProblem(403, f"this token isn't good for this: it needs the scope '{scope}'")
        return caller

    return check


MayRead = Annotated[Caller, Depends(_needs("read"))]
MayRun = Annotated[Caller, Depends(_needs("run"))]
MayCancel = Annotated[Caller, Depends(_needs("cancel"))]


class JSONValueResponse(Response):
    """Plain values as JSON, whatever they hold."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return without_stacks(dump(content))


class ApiContext:
    """The service, as both faces api to it."""

    def __init__(self, service: RunService) -> None:
        self.service = service
        self.streams = StreamLimiter(service.limits.streams)

    def stream(
        self, follower: Follower[Any], frame: Frame, caller: Caller, *, retry: bool = True, starts: bool = False
    ) -> EventStream:
        """Return the response that tells a run.

        Parameters:
            starts: the client stands for the start of the run: when it leaves, `on_disconnect` is looked at.
        """
        audience = StreamContext(followers=self.service.followers, streams=self.streams, caller=caller, starts=starts)
        return EventStream(follower, frame, limits=self.service.limits, audience=audience, retry=retry)

    async def stream_started(self, run_id: str, frame: Frame, caller: Caller, *, retry: bool = True) -> EventStream:
        """Return the response that tells a run which was just started, from its beginning."""
        found = await self.service.runs.find(run_id, caller)
        return self.stream(await self.service.follow(found, None), frame, caller, retry=retry, starts=True)

    async def wait(self, request: Request, run_id: str, caller: Caller) -> None:
        """Wait for the end of a run that this request has started. Its client is present for as long.

        Returns early if the client has left: then nobody reads the answer.
        """
        run: Any = registry.get(run_id)
        if run is None:
            return
        self.service.followers.joined(run_id, caller, starts=True)
        ended = asyncio.ensure_future(run.settled.wait_async())
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.service.followers.left(run_id, caller, lost=not ended.done())
            ended.cancel()
            left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
