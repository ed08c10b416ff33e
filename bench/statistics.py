"""Percentiles of samples. Pure; knows nothing of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "percentile", "spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle, the tail and the worst of some samples, in the samples' unit."""

    p50: float
    p99: float
    worst: float
    count: int

    def __str__(self) -> str:
        return f"{self.p50:.2f}/{self.p99:.2f}/{self.worst:.2f}"


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that `share` (0..1) of all samples don't exceed."""
    ordered = sorted(samples)
    rank = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(0, min(len(ordered), rank) - 1)]


def spread(samples: Sequence[float]) -> Spread | None:
    """Return the spread of `samples`, None if there are none."""
    if not samples:
        return None
    return Spread(percentile(samples, 0.5), percentile(samples, 0.99), max(samples), len(samples))
