"""ASGI middleware for unexpected exceptions. Each is logged once, with its request and its run.

Placed between `SecurityMiddleware` and the routes. Without it, Starlette would respond and raise the exception again,
and the ASGI server would log it twice or not at all, without the request.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desist.server.problems import HTTPProblem, internal_error

__all__ = ["ErrorMiddleware", "log_unexpected"]

log = logging.getLogger("desist.server")


class ErrorMiddleware:
    """Turns an exception into a 500 response and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def tracking_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, tracking_send)
        except RecursionError as error:
            log_unexpected(scope, error)
            if not started:  # the only deep structures here are those that clients send
                problem = HTTPProblem(422, "the request is nested too deeply")
                await problem.response()(scope, receive, send)
        except Exception as error:
            log_unexpected(scope, error)
            if not started:  # else the response is cut off
                await internal_error().response()(scope, receive, send)


def log_unexpected(scope: Scope, error: BaseException) -> None:
    """Log an unexpected exception of a request."""
    run_id = scope.get("path_params", {}).get("run_id", "none")
    message = "%s %r of run %r failed: %s: %s"
    log.error(message, scope["method"], scope["path"], run_id, type(error).__name__, error, exc_info=error)
