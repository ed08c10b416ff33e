"""What no handler knows: the server's own mistakes. Each is logged once, with its cause, its request and its run.

Stands inside of the guard and around the routes. Without it Starlette would answer and raise again, for whichever
server it runs in to log: twice or never, and without a word about the request.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from desist.server.problems import HTTPProblem, answer

__all__ = ["ErrorMiddleware", "log_mistake"]

log = logging.getLogger("desist.server")

MISTAKE = "the server made a mistake: its log says more"


class ErrorMiddleware:
    """ASGI middleware: an exception becomes a 500, and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except RecursionError as error:
            log_mistake(scope, error)
            if not started:  # what clients send is the deepest that there is here
                await answer(HTTPProblem(422, "the request is nested too deep"))(scope, receive, send)
        except Exception as error:
            log_mistake(scope, error)
            if not started:  # else the client sees that the answer breaks off
                await answer(HTTPProblem(500, MISTAKE))(scope, receive, send)


def log_mistake(scope: Scope, error: BaseException) -> None:
    """Log why a request failed that should not have."""
    run_id = scope.get("path_params", {}).get("run_id", "none")
    words = "%s %r of run %r failed: %s: %s"
    log.error(words, scope["method"], scope["path"], run_id, type(error).__name__, error, exc_info=error)
