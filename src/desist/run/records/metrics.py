"""Token usage and durations of runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RunMetrics", "Usage"]


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens of one model call as reported by the provider; 0 if not reported. A missing total is the sum."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __post_init__(self) -> None:
        self.total_tokens = self.total_tokens or self.input_tokens + self.output_tokens

    def add(self, other: Usage) -> None:
        """Add `other` to this usage."""
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.total_tokens += other.total_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens


@dataclass(slots=True, kw_only=True)
class RunMetrics(Usage):
    """Tokens of all model calls of a run, and the run's duration."""

    model_calls: int = 0
    tool_calls: int = 0
    time_to_first_token: float | None = None  #: seconds
    duration: float | None = None  #: seconds
