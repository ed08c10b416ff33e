"""The agent card of a workflow or agent."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from desist.server.components import Component

__all__ = ["card_of"]

#: The newest first.
VERSIONS = ("1.0", "0.3")
MODES = ["text/plain", "application/json"]


def card_of(component: Component, url: str, *, secured: bool) -> dict[str, Any]:
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
