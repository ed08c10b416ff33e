"""`Model`: the interface of a language model.

A cancel arrives as an ordinary asyncio cancellation at the current `await` of `stream`. A model that holds a
connection opens it inside `with upstream() as connection:` (`desist.cancel.upstream`), so that the canceller can
shut the connection down at once. The agent has the turn loop, the tools and the history.
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
    """A request to a model.

    `tools` are function definitions in the format of OpenAI, `{"type": "function", "function": {name, description,
    parameters}}`; `response_format` is a pydantic model class, a JSON schema, or None for free text.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    response_format: type[Any] | dict[str, Any] | None = None


class Model(ABC):
    """A language model. Subclasses set `id` and implement `stream`."""

    id: str
    name: str | None = None
    provider: str | None = None

    @abstractmethod
    def stream(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """Yield the response in pieces. Write it as `async def stream(self, request): ... yield ModelResponse(...)`.

        Raises:
            ModelError: the call failed; `retryable` says whether a retry may succeed.
        """

    def check(self) -> None:
        """Raise `ConfigurationError` if the model can't be called, for instance without a key. Called before a run."""
        return
