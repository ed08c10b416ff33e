"""The one thing that a model must do: answer messages, in pieces, asynchronously.

A cancel arrives as an ordinary asyncio cancellation at the `await` that `stream` stands in. A model that holds a
connection opens it inside `with upstream() as connection:` (`desist.cancel.upstream`), so that the canceller can
shut it down at once. The turn loop, tools and history are the agent's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from desist.models.message import Message
from desist.models.response import ModelResponse

__all__ = ["Model", "ModelRequest"]


@dataclass(slots=True, kw_only=True)
class ModelRequest:
    """What a model is asked.

    `tools` are function definitions in the OpenAI shape, `{"type": "function", "function": {name, description,
    parameters}}`; `response_format` is a pydantic model class, a JSON schema, or None for free text.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    response_format: type[Any] | dict[str, Any] | None = None


class Model(ABC):
    """A language model. Subclasses set `id` and write `stream`."""

    id: str
    name: str | None = None
    provider: str | None = None

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """Answer `request` in pieces: write it as `async def stream(self, request): ... yield ModelResponse(...)`.

        Raises:
            ModelError: the call failed; `retryable` says whether another try may help.
        """

    def check(self) -> None:
        """Raise `ConfigurationError` if the model can't be called at all: no key, no weights. Called before a run."""
        return
