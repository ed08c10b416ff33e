"""`/a2a`: the agent card and the JSON-RPC endpoint of each workflow and agent."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.server.routes.jsonrpc_routes import create_jsonrpc_routes
from a2a.types.a2a_pb2 import AgentCard
from google.protobuf.json_format import ParseDict
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from desist.server.components import Component
from desist.server.dependencies import ApiContext
from desist.server.protocols.a2a.handler import A2ARequestHandler

__all__ = ["a2a_routes"]

#: The newest first.
VERSIONS = ("1.0", "0.3")
MODES = ["text/plain", "application/json"]
#: Loggers of the SDK whose lines contain text from clients.
LOGGERS = ("a2a.server.routes.jsonrpc_dispatcher", "a2a.compat.v0_3.jsonrpc_adapter")


def a2a_routes(api: ApiContext, *, at: str | None, secured: bool) -> list[BaseRoute]:
    """Return the routes.

    Parameters:
        at: the base URL for clients; None: that of each request.
        secured: whether requests need a token.
    """
    for logger in LOGGERS:
        logging.getLogger(logger).addFilter(_one_line)
    known = api.service.components
    routes: list[BaseRoute] = []
    for kind in ("workflow", "agent"):
        for one in known.of_kind(kind):
            path = f"/a2a/{kind}s/{one.id}"
            routes += create_jsonrpc_routes(A2ARequestHandler(api, one), path, _WithRequest(), enable_v0_3_compat=True)
            routes.append(_card(one, path, at, secured))
    return routes


def _one_line(record: logging.LogRecord) -> bool:
    """Escape line breaks, so that text from a client can't forge a log line."""
    record.msg, record.args = record.getMessage().encode("unicode_escape").decode(), ()
    record.exc_info = None
    return True


def _card(component: Component, path: str, at: str | None, secured: bool) -> Route:
    async def card(request: Request) -> JSONResponse:
        base = at or str(request.base_url)
        made = _card_of(component, base.rstrip("/") + quote(path), secured=secured)
        return JSONResponse(agent_card_to_dict(ParseDict(made, AgentCard())))  # also has the fields of older versions

    return Route(f"{path}/.well-known/agent-card.json", card, methods=["GET"])


def _card_of(component: Component, url: str, *, secured: bool) -> dict[str, Any]:
    """Return the card as JSON.

    Parameters:
        url: the endpoint of the agent.
        secured: whether requests need a token.
    """
    name = component.name or component.id
    description = component.description or name
    skill = {"id": component.id, "name": name, "description": description, "tags": ["desist"]}
    card: dict[str, Any] = {
        "name": name,
        "description": description,
        "version": version("desist"),
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version} for version in VERSIONS
        ],
        "capabilities": {"streaming": True},
        "defaultInputModes": MODES,
        "defaultOutputModes": MODES[:1],
        "skills": [skill],
    }
    if secured:
        card["securitySchemes"] = {"token": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}}
        card["securityRequirements"] = [{"schemes": {"token": {}}}]
    return card


class _WithRequest(ServerCallContextBuilder):
    """Passes the request to the handler, for the caller and for disconnects."""

    def build(self, request: Request) -> ServerCallContext:
        state: dict[str, Any] = {"request": request, "headers": dict(request.headers)}
        return ServerCallContext(state=state)
