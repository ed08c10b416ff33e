"""Models of OpenAI and of servers that speak one of its protocols. The names are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from desist.models.openai.chat import OpenAIChat
    from desist.models.openai.responses import OpenAIResponses

__all__ = ["OpenAIChat", "OpenAIResponses"]

_PLACES = {"OpenAIChat": "desist.models.openai.chat", "OpenAIResponses": "desist.models.openai.responses"}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'desist.models.openai' has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(place), name)
    return value
