"""`/mcp`: streamable HTTP. Checks the caller and the limits before the SDK's session manager."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from desist.server.event_stream import StreamLimiter
from desist.server.problems import HTTPProblem
from desist.server.protocols.mcp.handler import MCPHandler
from desist.server.run_service import RunService
from desist.server.tokens import Caller

__all__ = ["MCPEndpoint"]

#: The maximum of open sessions, and the seconds without a request after which one is closed.
SESSIONS, IDLE = 500, 300.0


class MCPEndpoint:
    """The ASGI application for `/mcp`. Works while `run()` is entered.

    Parameters:
        streams: counts the open requests of a client together with its other streams.
    """

    def __init__(self, service: RunService, streams: StreamLimiter) -> None:
        server = MCPHandler(service, _caller).server()
        self._streams = streams
        self._sessions = StreamableHTTPSessionManager(
            server, max_request_body_size=service.limits.body, max_sessions=SESSIONS, session_idle_timeout=IDLE
        )

    def route(self) -> Route:
        """Return the route."""
        return Route("/mcp", self)

    def run(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager to enter for the lifetime of the application."""
        return self._sessions.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        caller: Caller = scope["desist.caller"]
        try:
            if "run" not in caller.scopes:  # a session is useful only for tool calls, and uses memory
                raise HTTPProblem(403, "this request needs a token with the scope 'run'")
            self._streams.check(caller)
        except HTTPProblem as problem:
            await problem.response()(scope, receive, send)
            return
        # The SDK binds a session to this user: only the client that opened it may use it.
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
