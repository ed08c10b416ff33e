"""The SDKs of the providers, imported when they are first used.

Called by `clients`, `errors` and `model`. An SDK is used for addresses, headers and its client's settings only: the
connection is desist's, and so is the reading of what comes back. The two known ones name their errors alike.
"""

from __future__ import annotations

import enum
from typing import Any

from desist.exceptions import MissingExtraError

__all__ = ["Sdk"]


class Sdk(enum.Enum):
    """An SDK and the name of its package."""

    openai = "openai"
    anthropic = "anthropic"

    @property
    def module(self) -> Any:
        """The package. The first import takes half a second: do it in a thread.

        Raises:
            MissingExtraError: it isn't installed.
        """
        if self is Sdk.openai:
            import openai

            return openai
        try:
            import anthropic
        except ImportError as error:
            raise MissingExtraError("Claude", "anthropic") from error
        return anthropic

    def client(self, **settings: Any) -> Any:
        """Return an async client that creates no spans: runs create one for each model call."""
        if self is Sdk.openai:
            return self.module.AsyncOpenAI(**settings)
        return self.module.AsyncAnthropic(open_telemetry=False, **settings)

    @property
    def base_error(self) -> type[Exception]:
        """The base class of the SDK's errors."""
        name = "OpenAIError" if self is Sdk.openai else "AnthropicError"
        error: type[Exception] = getattr(self.module, name)
        return error
