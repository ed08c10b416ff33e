"""`Answer`: what one response has said so far, in whichever API; made by the parsers, which tell it what they read.

A parser returns the pieces that `text` and `thought` give. Calls, usage and finish reason are told here, and come as
one last piece. Knows nothing of JSON or connections.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from desist.exceptions import ModelResponseError
from desist.models.finish_reason import normalized_finish_reason
from desist.models.http.think_tags import ThinkTags
from desist.models.http.usage import UsageCount
from desist.models.response import ModelResponse
from desist.models.tool_call_assembler import ToolCallAssembler

__all__ = ["Answer", "joined"]


class Answer:
    """A response that is being read. `names` are those of the tools that may be called."""

    __slots__ = ("_reason", "_refused", "_tags", "calls", "complete", "done", "said", "usage")

    def __init__(self, names: Collection[str] = ()) -> None:
        self.complete = False  #: the response is complete if the stream ends now
        self.done = False  #: the protocol's end mark was received
        self.said = False  #: there was text or reasoning
        self.calls = ToolCallAssembler(names)
        self.usage = UsageCount()
        self._tags: ThinkTags | None = ThinkTags()  # until the text has begun
        self._reason: str | None = None
        self._refused = False

    def text(self, text: str) -> ModelResponse | None:
        """Return the piece for a text, without reasoning in tags; None if that isn't clear yet."""
        self.said = True
        if self._tags is None:
            return ModelResponse(content=text)
        thought, text = self._tags.split(text)
        if not self._tags.open:
            self._tags = None
        return ModelResponse(content=text or None, reasoning_content=thought or None) if thought or text else None

    def thought(self, text: str) -> ModelResponse:
        """Return the piece for some reasoning."""
        self.said = True
        return ModelResponse(reasoning_content=text)

    def refusal(self, text: str) -> ModelResponse | None:
        """Return the piece for a refusal's text."""
        self._refused = True
        return self.text(text) if text else None

    def ended(self, reason: str | None) -> None:
        """Note a finish reason. One that says that the end is missing isn't replaced by one that doesn't."""
        reason = normalized_finish_reason(reason)
        if reason is not None:
            self.complete = True
            if self._reason in (None, "stop", "tool_calls"):
                self._reason = reason

    def last_piece(self, provider_data: Mapping[str, Any] | None = None) -> ModelResponse:
        """Return the last piece: calls, usage, finish reason, text that waited, `provider_data`.

        Raises:
            ModelResponseError: the answer is empty, and no reason says that this is meant.
        """
        calls, reason = self.calls.calls(), self._reason
        if not (self.said or calls) and reason in (None, "error", "abort"):
            why = f"the finish reason {reason!r}" if reason else "no finish reason"
            raise ModelResponseError(f"the provider's answer is empty, with {why}", retryable=True)
        if reason is None and not self.calls.all_whole():
            reason = "incomplete"
        if self._refused and reason in (None, "stop"):
            reason = "refusal"
        thought, text = self._tags.rest() if self._tags is not None else ("", "")
        return ModelResponse(
            content=text or None,
            reasoning_content=thought or None,
            tool_calls=calls or None,
            usage=self.usage.total(),
            finish_reason=reason,
            provider_data=dict(provider_data) if provider_data else None,
        )


def joined(first: ModelResponse | None, second: ModelResponse | None) -> ModelResponse | None:
    """Return one piece with the text and reasoning of two."""
    if first is None or second is None:
        return first or second
    return ModelResponse(
        content=(first.content or "") + (second.content or "") or None,
        reasoning_content=(first.reasoning_content or "") + (second.reasoning_content or "") or None,
    )
