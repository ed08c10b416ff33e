"""`create_app`: the ASGI application. It puts the parts together; what they do is theirs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import desist
from desist.agent.agent import Agent
from desist.cancel.reason import Source
from desist.exceptions import ConfigurationError, DesistError
from desist.run.store import Database, RunStore
from desist.server.components import Components
from desist.server.core import Core
from desist.server.guard import OPEN, Guard
from desist.server.problems import Refused, answer, of_error, of_invalid
from desist.server.requests import Talk
from desist.server.settings import Limits
from desist.server.shaped import shaped_routes
from desist.server.shapes import Problem
from desist.server.tokens import Token, Tokens
from desist.server.v1 import v1_routes
from desist.workflow.workflow import Workflow

__all__ = ["create_app"]

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>desist</title>
<h1>desist</h1><p>Runs, over HTTP. What it speaks: <a href="openapi.json">openapi.json</a>.</p></html>
"""


def create_app(
    *,
    workflows: Sequence[Workflow] = (),
    agents: Sequence[Agent] = (),
    db: Database | RunStore | None = None,
    tokens: Sequence[Token] = (),
    limits: Limits | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Return an ASGI application that starts, shows and stops runs of these workflows and agents.

    It lives in one process, on one loop. `desist.server.serve` runs it and drains it at SIGTERM; under another server
    the runs that still live when that one ends are cancelled, with source `shutdown`.

    Parameters:
        workflows, agents: what to serve.
        db: where runs of those are recorded that have no `db` of their own. None: in memory.
        tokens: who may ask. Without any, only this machine may, and no page of another site.
        limits: how much it takes, and how patient it is.
        cors_origins: origins whose pages may ask, such as "https://app.example". "*" isn't one.

    Raises:
        ConfigurationError: something can't be served, or an origin isn't one.
    """
    for origin in cors_origins:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise ConfigurationError(f"cors_origins={origin!r}: an origin is such as 'https://app.example'")
    limits = limits or Limits()
    known = Tokens(tokens)
    core = Core(Components(workflows, agents, db), limits)
    app = FastAPI(
        title="desist",
        version=desist.__version__,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(core),
        middleware=_middleware(known, limits, cors_origins),
    )
    app.state.core = core
    _routes(app, Talk(core))
    _errors(app)
    _describe(app, secured=bool(known))
    return app


def _lifespan(core: Core) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await core.take_up()
            yield
        finally:
            await core.house.drain(0.0, Source.shutdown, "the server is ending")

    return lifespan


def _middleware(tokens: Tokens, limits: Limits, origins: Sequence[str]) -> list[Middleware]:
    guard = Middleware(Guard, tokens=tokens, body=limits.body, origins=origins)
    if not origins:
        return [guard]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        expose_headers=["Location", "Retry-After"],
    )
    return [cors, guard]


def _routes(app: FastAPI, talk: Talk) -> None:
    app.include_router(v1_routes(talk))
    app.include_router(shaped_routes(talk, "workflow"))
    app.include_router(shaped_routes(talk, "agent"))

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE)

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Say that the server is there, and whether it takes new runs: `ok`, or `closing`."""
        return {"status": "closing" if talk.core.house.closing else "ok"}


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answer(error)

    @app.exception_handler(DesistError)
    async def ours(request: Request, error: DesistError) -> Response:
        return answer(of_error(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(of_invalid(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return answer(Refused(error.status_code, str(error.detail), error.headers))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return answer(Refused(500, "the server made a mistake: its log says more"))


def _describe(app: FastAPI, *, secured: bool) -> None:
    """Make the OpenAPI exact: our own errors instead of FastAPI's, and tokens where they are needed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            schemas["Problem"] = Problem.model_json_schema()
            if secured:
                made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                for path, operations in made["paths"].items():
                    for operation in operations.values() if path not in OPEN else ():
                        operation["security"] = [{"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change it
