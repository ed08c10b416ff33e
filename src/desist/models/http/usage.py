"""`UsageCount`: the tokens of a response, under all the names that servers have for them. Used by `answer`.

`RawUsage` is what the parsers decode. Servers count along, count at the end, or both; a count that is missing or 0
keeps its earlier value.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from desist.run.records.metrics import Usage

__all__ = ["RawUsage", "UsageCount"]

Count = int | float | None
LARGEST = 2**53  #: a larger count is a mistake, and would not survive JSON


class _Details(msgspec.Struct):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    reasoning_tokens: Count = None
    thinking_tokens: Count = None


class RawUsage(msgspec.Struct):
    """The counts of any of the APIs."""

    prompt_tokens: Count = None
    input_tokens: Count = None
    completion_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cached_tokens: Count = None
    prompt_cache_hit_tokens: Count = None
    reasoning_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None


class UsageCount:
    """Adds up what a response says of its usage. `None` until it says anything."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = None

    def take(self, raw: RawUsage | None, *, cache_apart: bool = False) -> None:
        """Take counts. `cache_apart`: the input tokens leave out what the cache read and wrote."""
        if raw is None:
            return
        read = raw.prompt_tokens_details or raw.input_tokens_details or _Details()
        made = raw.completion_tokens_details or raw.output_tokens_details or _Details()
        counts = {
            "input": _first(raw.prompt_tokens, raw.input_tokens),
            "output": _first(raw.completion_tokens, raw.output_tokens),
            "total": _first(raw.total_tokens),
            "reasoning": _first(made.reasoning_tokens, made.thinking_tokens, raw.reasoning_tokens),
            "read": _first(
                read.cached_tokens, raw.cached_tokens, raw.prompt_cache_hit_tokens, raw.cache_read_input_tokens
            ),
            "written": _first(read.cache_write_tokens, raw.cache_creation_input_tokens),
            "apart": int(cache_apart),
        }
        self._counts = (self._counts or counts) | {name: count for name, count in counts.items() if count}

    def total(self) -> Usage | None:
        """Return the usage, or None if the response had none."""
        if self._counts is None:
            return None
        input, output, total, reasoning, read, written, apart = self._counts.values()
        if apart:
            input += read + written
        return Usage(
            input_tokens=input,
            output_tokens=output,
            total_tokens=max(total, input + output),
            reasoning_tokens=reasoning,
            cache_read_tokens=read,
            cache_write_tokens=written,
        )


def _first(*counts: Any) -> int:
    """Return the first of the counts that is one, else 0."""
    return next((int(count) for count in counts if count and math.isfinite(count) and 0 < count < LARGEST), 0)
