"""`/mcp`: streamable HTTP. The door to the SDK's sessions: who asks, and how much at once."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from desist.server.event_stream import StreamLimiter
from desist.server.problems import HTTPProblem, answer
from desist.server.protocols.mcp.handler import MCPHandler
from desist.server.run_service import RunService
from desist.server.tokens import Caller

__all__ = ["MCPEndpoint"]

#: How many sessions may be open in all, and seconds without a request after which one is closed.
SESSIONS, IDLE = 500, 300.0


class MCPEndpoint:
    """An ASGI application for `/mcp`. It works while `run()` is entered.

    Parameters:
        streams: where requests that are being answered are counted, with all other streams of a client.
    """

    def __init__(self, service: RunService, streams: StreamLimiter) -> None:
        server = MCPHandler(service, _caller).server()
        self._streams = streams
        self._sessions = StreamableHTTPSessionManager(
            server, max_request_body_size=service.limits.body, max_sessions=SESSIONS, session_idle_timeout=IDLE
        )

    def route(self) -> Route:
        """Return where it is."""
        return Route("/mcp", self)

    def run(self) -> AbstractAsyncContextManager[None]:
        """Return what is entered for as long as the application lives."""
        return self._sessions.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        caller: Caller = scope["desist.caller"]
        try:
            if "run" not in caller.scopes:  # a session is good for calls of tools only, and holds memory
                raise HTTPProblem(403, "this token isn't good for this: it needs the scope 'run'")
            self._streams.check(caller)
        except HTTPProblem as refused:
            await answer(refused)(scope, receive, send)
            return
        # Whoever has opened a session is the one who may use it.
        token = AccessToken(token="", client_id=caller.key, scopes=[])
        scope = {**scope, "user": AuthenticatedUser(token)}
        self._streams.count(caller, 1)
        try:
            await self._sessions.handle_request(scope, receive, send)
        finally:
            self._streams.count(caller, -1)


def _caller(ctx: Any) -> Caller:
    caller: Caller = ctx.request.scope["desist.caller"]
    return caller
