"""`create_app`: the ASGI application. It puts the parts together; what they do is theirs."""

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
from desist.server.api.v1_routes import v1_routes
from desist.server.api.v1_schemas import Problem
from desist.server.components import Components
from desist.server.dependencies import ApiContext
from desist.server.error_middleware import ErrorMiddleware, log_mistake
from desist.server.page import page_routes
from desist.server.problems import HTTPProblem, answer, of_error, of_invalid
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
    """Return an ASGI application that starts, shows and stops runs of these workflows and agents.

    It lives in one process, on one loop. `desist.server.serve` runs it and drains it at SIGTERM; under another server
    the runs that still live when that one ends are cancelled, with source `shutdown`.

    Parameters:
        workflows, agents: what to serve.
        db: where runs of those are recorded that have no `db` of their own. None: in memory.
        tokens: who may ask. Without any, only this machine may, and no page of another site.
        limits: how much it takes, and how patient it is.
        cors_origins: origins whose pages may ask, such as "https://app.example". "*" isn't one.
        a2a: speak A2A, at `/a2a`; or the address at which its clients find the server, if they need another one than
            that which they ask for. Needs the extra `a2a`.
        mcp: be an MCP server, at `/mcp`, whose tools they are. Needs the extra `mcp`.
        stacks: show clients files and source lines, of work that can't be stopped and of what runs wait for. Without,
            they are told the names of functions.

    Raises:
        ConfigurationError: something can't be served, or an origin isn't one.
    """
    for origin in cors_origins:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise ConfigurationError(f"cors_origins={origin!r}: an origin is such as 'https://app.example'")
    limits = limits or Limits()
    known = Tokens(tokens)
    service = RunService(Components(workflows, agents, db), limits)
    api = ApiContext(service)
    door = _mcp(api) if mcp else None
    app = FastAPI(
        title="desist",
        version=version("desist"),
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(service, door),
        middleware=_middleware(known, limits, cors_origins) + ([Middleware(ShowStacks)] if stacks else []),
    )
    app.state.service = service
    _routes(app, api)
    if a2a:
        app.routes.extend(_a2a(api, None if a2a is True else a2a, bool(known)))
    if door is not None:
        app.routes.append(door.route())
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
                await service.active_runs.drain(0.0, Source.shutdown, "the server is ending")

    return lifespan


def _middleware(tokens: Tokens, limits: Limits, origins: Sequence[str]) -> list[Middleware]:
    mistakes = Middleware(ErrorMiddleware)
    guard = Middleware(SecurityMiddleware, tokens=tokens, body=limits.body, origins=origins)
    if not origins:
        return [guard, mistakes]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        expose_headers=["Location", "Retry-After"],
    )
    return [cors, guard, mistakes]


def _routes(app: FastAPI, api: ApiContext) -> None:
    app.include_router(page_routes())
    app.include_router(v1_routes(api))
    app.include_router(agui_routes(api))
    app.include_router(live_routes(api))
    app.include_router(compat_routes(api, "workflow"))
    app.include_router(compat_routes(api, "agent"))

    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Say that the server is there, and whether it takes new runs: `ok`, or `closing`."""
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
    """Say which extra is missing, if one of its packages can't be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in packages:
            raise
        raise MissingExtraError(f"create_app({extra}=...)", extra) from error


def _errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPProblem)
    async def refused(request: Request, error: HTTPProblem) -> Response:
        return answer(error)

    @app.exception_handler(DesistError)
    async def ours(request: Request, error: DesistError) -> Response:
        told = of_error(error)
        if told.status == 500:
            log_mistake(request.scope, error)
        return answer(told)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(of_invalid(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return answer(HTTPProblem(error.status_code, str(error.detail), error.headers))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return answer(HTTPProblem(500, "the server made a mistake: its log says more"))


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
