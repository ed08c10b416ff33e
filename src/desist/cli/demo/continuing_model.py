"""A model that doesn't know when to stop: whenever the story is over, it is asked for the next chapter.

A small model ends a "very long story" after some hundred words, and there would be nothing to cancel. Demo only.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from desist.models.base import Model, ModelRequest
from desist.models.message import Message
from desist.models.response import ModelResponse

__all__ = ["ContinuingModel"]

#: Characters of what was written that the model is shown again.
MEMORY = 1500


class ContinuingModel(Model):
    """Goes on where `inner` ends, for at most `chapters` requests, one after the other."""

    def __init__(self, inner: Model, chapters: int = 200) -> None:
        self._inner, self._chapters = inner, chapters
        self.id, self.name, self.provider = inner.id, inner.name, inner.provider

    def check(self) -> None:
        """Raise what the model itself raises."""
        self._inner.check()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Answer without an end. Raises what the model itself raises."""
        *before, notes = request.messages
        first = Message("user", f"Write the first chapter of the story. Notes: {notes.content}")
        asked = replace(request, messages=[*before, first])
        for _ in range(self._chapters):
            said = ""
            answer: Any = self._inner.stream(asked)
            async with contextlib.aclosing(answer) as pieces:
                async for piece in pieces:
                    if piece.content:
                        said += piece.content
                        yield ModelResponse(content=piece.content)
            yield ModelResponse(content="\n\n")
            more = [Message("assistant", said[-MEMORY:] or "..."), Message("user", "Go on with the next chapter.")]
            asked = replace(request, messages=[*before, first, *more])
        yield ModelResponse(finish_reason="length")
