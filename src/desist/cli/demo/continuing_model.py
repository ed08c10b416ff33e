"""`ContinuingModel`: a model whose answer doesn't end: when the story ends, the next chapter is requested.

A small model ends a "very long story" after a few hundred words: too early to be cancelled. For the demo only.
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

#: Characters of the text so far that are sent with the next request.
MEMORY = 1500


class ContinuingModel(Model):
    """Continues the answer of `inner`, with at most `chapters` consecutive requests."""

    def __init__(self, inner: Model, chapters: int = 200) -> None:
        self._inner, self._chapters = inner, chapters
        self.id, self.name, self.provider = inner.id, inner.name, inner.provider

    def check(self) -> None:
        """Check the inner model; its exceptions are raised."""
        self._inner.check()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Stream chapter after chapter. Exceptions of the inner model are raised."""
        *before, notes = request.messages
        first = Message("user", f"Write the first chapter of the story. Notes: {notes.content}")
        current = replace(request, messages=[*before, first])
        for _ in range(self._chapters):
            text = ""
            answer: Any = self._inner.stream(current)
            async with contextlib.aclosing(answer) as pieces:
                async for piece in pieces:
                    if piece.content:
                        text += piece.content
                        yield ModelResponse(content=piece.content)
            yield ModelResponse(content="\n\n")
            more = [Message("assistant", text[-MEMORY:] or "..."), Message("user", "Go on with the next chapter.")]
            current = replace(request, messages=[*before, first, *more])
        yield ModelResponse(finish_reason="length")
