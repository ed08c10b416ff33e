"""The numbered steps from an empty SQLite file to what this version needs: `0001_begin.sql` and so on.

A step that was released is never changed; what is needed later is a step of its own. `{sessions}`, `{runs}` and
so on stand for the names of the tables, see `Names`. A statement ends with a semicolon at the end of a line.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["statements", "steps"]


def steps() -> list[Path]:
    """Return the files in their order; the place in the list, from 1 on, is the version that a step leads to."""
    return sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def statements(step: Path, names: dict[str, str]) -> list[str]:
    """Return the statements of a step, with the names of the tables filled in."""
    lines = [line for line in step.read_text().splitlines() if not line.lstrip().startswith("--")]
    return [part.strip() for part in "\n".join(lines).format(**names).split(";\n") if part.strip()]
