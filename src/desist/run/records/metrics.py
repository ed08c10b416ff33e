"""What a run used: tokens and seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RunMetrics", "Usage"]


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens of one model call, as the provider counted them; 0 where it didn't say."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def add(self, other: Usage) -> None:
        """Count `other` in."""
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.total_tokens += other.total_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens


@dataclass(slots=True, kw_only=True)
class RunMetrics(Usage):
    """Tokens of a run over all its model calls, and its seconds."""

    model_calls: int = 0
    tool_calls: int = 0
    time_to_first_token: float | None = None  #: seconds
    duration: float | None = None  #: seconds
