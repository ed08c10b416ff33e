"""Models of OpenAI and of compatible servers. The names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.models.openai.chat import OpenAIChat
    from desist.models.openai.responses import OpenAIResponses

__all__ = ["OpenAIChat", "OpenAIResponses"]

_PLACES = {"OpenAIChat": "desist.models.openai.chat", "OpenAIResponses": "desist.models.openai.responses"}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)
