"""`create_app`: assembles the ASGI application from routes, middleware and protocols."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from desist.agent.agent import Agent
from desist.cancel.reason import Source
from desist.exceptions import ConfigurationError, DesistError, MissingExtraError
from desist.run.storage.store import Database, RunStore
from desist.server.api.compat_routes import compat_routes
from desist.server.api.live_routes import live_routes
from desist.server.api.metrics_routes import metrics_routes
from desist.server.api.v1_routes import v1_routes
from desist.server.api.v1_schemas import Problem
from desist.server.components import Components
from desist.server.dependencies import ApiContext
from desist.server.error_middleware import ErrorMiddleware, log_unexpected
from desist.server.page import page_routes
from desist.server.problems import HTTPProblem, internal_error, problem_from_error, problem_from_validation
from desist.server.protocols.agui.routes import agui_routes
from desist.server.run_service import RunService
from desist.server.security_middleware import OPEN, SecurityMiddleware
from desist.server.settings import Limits
from desist.server.stack_redaction import ShowStacks
from desist.server.tokens import Token, Tokens
from desist.workflow.workflow import Workflow

if TYPE_CHECKING:
    from desist.server.protocols.mcp.http import MCPEndpoint

__all__ = ["create_app"]


def create_app(
    *,
    workflows: Sequence[Workflow] = (),
    agents: Sequence[Agent] = (),
    db: Database | RunStore | None = None,
    tokens: Sequence[Token] = (),
    limits: Limits | None = None,
    cors_origins: Sequence[str] = (),
    a2a: bool | str = False,
    mcp: bool = False,
    stacks: bool = False,
) -> FastAPI:
    """Return an ASGI application that starts, shows and cancels runs of these workflows and agents.

    The application runs in one process, on one loop. `desist.server.serve` runs it and drains it at SIGTERM. Under
    another ASGI server, the runs that are live at shutdown are cancelled with source `shutdown`.

    Parameters:
        workflows, agents: the components to serve.
        db: the database for components without a `db` of their own. None: in memory.
        tokens: the accepted tokens. Without any, only this machine is served, and no page of another origin.
        limits: sizes, counts and timeouts.
        cors_origins: origins whose pages may send requests, such as "https://app.example". "*" is not accepted.
        a2a: serve A2A at `/a2a`. A string is the base URL for its clients, if that of the request is not right.
            Needs the extra `a2a`.
        mcp: serve MCP at `/mcp`, with the components as tools. Needs the extra `mcp`.
        stacks: include file names and source lines where responses say what runs and abandoned calls are blocked in.
            By default they include function names only.

    Raises:
        ConfigurationError: a component can't be served, or an origin is invalid.
    """
    for origin in cors_origins:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise ConfigurationError(f"cors_origins={origin!r}: use an origin such as 'https://app.example'")
    limits = limits or Limits()
    known = Tokens(tokens)
    service = RunService(Components(workflows, agents, db), limits)
    api = ApiContext(service)
    mcp_endpoint = _mcp(api) if mcp else None
    app = FastAPI(
        title="desist",
        version=version("desist"),
        docs_url=None,  # FastAPI's pages load scripts from a CDN
        redoc_url=None,
        lifespan=_lifespan(service, mcp_endpoint),
        middleware=_middleware(known, limits, cors_origins) + ([Middleware(ShowStacks)] if stacks else []),
    )
    app.state.service = service
    _routes(app, api)
    if a2a:
        app.routes.extend(_a2a(api, None if a2a is True else a2a, bool(known)))
    if mcp_endpoint is not None:
        app.routes.append(mcp_endpoint.route())
    _errors(app)
    _describe(app, secured=bool(known))
    return app


def _lifespan(service: RunService, mcp_endpoint: MCPEndpoint | None) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with mcp_endpoint.run() if mcp_endpoint is not None else contextlib.nullcontext():
            try:
                await service.resume_orphans()
                yield
            finally:
                await service.active_runs.drain(0.0, Source.shutdown, "the server is shutting down")

    return lifespan


def _middleware(tokens: Tokens, limits: Limits, origins: Sequence[str]) -> list[Middleware]:
    errors = Middleware(ErrorMiddleware)
    security = Middleware(SecurityMiddleware, tokens=tokens, body=limits.body, origins=origins)
    if not origins:
        return [security, errors]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        expose_headers=["Location", "Retry-After"],
    )
    return [cors, security, errors]


def _routes(app: FastAPI, api: ApiContext) -> None:
    app.include_router(page_routes())
    app.include_router(v1_routes(api))
    app.include_router(agui_routes(api))
    app.include_router(live_routes(api))
    app.include_router(metrics_routes(api))
    app.include_router(compat_routes(api, "workflow"))
    app.include_router(compat_routes(api, "agent"))

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Return `ok`, or `closing` if the server is shutting down and accepts no new runs."""
        return {"status": "closing" if api.service.active_runs.closing else "ok"}


def _a2a(api: ApiContext, at: str | None, secured: bool) -> list[BaseRoute]:
    with _extra("a2a", "a2a", "google", "sse_starlette"):
        from desist.server.protocols.a2a.routes import a2a_routes

        return a2a_routes(api, at=at, secured=secured)


def _mcp(api: ApiContext) -> MCPEndpoint:
    with _extra("mcp", "mcp", "mcp_types"):
        from desist.server.protocols.mcp.http import MCPEndpoint

        return MCPEndpoint(api.service, api.streams)


@contextlib.contextmanager
def _extra(extra: str, *packages: str) -> Iterator[None]:
    """Raise MissingExtraError if a package of the extra can't be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in packages:
            raise
        raise MissingExtraError(f"create_app({extra}=...)", extra) from error


def _errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPProblem)
    async def refused(request: Request, error: HTTPProblem) -> Response:
        return error.response()

    @app.exception_handler(DesistError)
    async def desist_error(request: Request, error: DesistError) -> Response:
        problem = problem_from_error(error)
        if problem.status == 500:
            log_unexpected(request.scope, error)
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_from_validation(list(error.errors())).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return HTTPProblem(error.status_code, str(error.detail), error.headers).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return internal_error().response()


def _describe(app: FastAPI, *, secured: bool) -> None:
    """Correct the OpenAPI schema: our errors instead of FastAPI's, and the token for each path that needs it."""

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

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it
