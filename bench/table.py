"""Figures beside their targets, as tables of text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bench.machine import Wakes, load

__all__ = ["Figure", "Table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and what it should be."""

    name: str
    value: float
    unit: str
    target: float | None = None  #: None: no target, for comparison only
    better: Literal["less", "more"] = "less"
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        return self.value <= self.target if self.better == "less" else self.value >= self.target

    @property
    def verdict(self) -> str:
        """The words "ok" or "MISSED", or nothing without a target."""
        return "" if self.target is None else "ok" if self.ok else "MISSED"

    def row(self) -> list[str]:
        """Return the cells of this figure."""
        sign = "at most" if self.better == "less" else "at least"
        target = "" if self.target is None else f"{sign} {_number(self.target)}"
        return [self.name, f"{_number(self.value)} {self.unit}", target, self.verdict, self.note]


@dataclass(slots=True)
class Table:
    """Rows under a title, with how busy the machine was meanwhile."""

    title: str
    columns: list[str] = field(default_factory=lambda: ["figure", "measured", "target", "", "note"])
    rows: list[list[str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    control: str = ""

    def add(self, *figures: Figure) -> None:
        """Add figures, a row each."""
        self.figures += figures
        self.rows += [figure.row() for figure in figures]

    def close(self) -> Table:
        """Note how the machine is now, and return the table."""
        self.control = f"control: a thread's wake-up {Wakes.now()} ms (p50/p99/worst); load {load()}"
        return self

    def text(self) -> str:
        """Return the table for a terminal."""
        lines = _aligned([self.columns, *self.rows])
        return "\n".join([f"\n## {self.title}", *lines, self.control])

    def data(self) -> dict[str, Any]:
        """Return the table as JSON can hold it."""
        figures = [asdict(figure) | {"ok": figure.ok} for figure in self.figures]
        return {"title": self.title, "control": self.control, "figures": figures}


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
