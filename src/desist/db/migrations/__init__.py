"""The numbered steps from an empty database to what this version needs: `0001_begin.sql` and so on.

A step that was released is never changed; what is needed later is a step of its own. `{sessions}`, `{runs}` and
so on stand for the names of the tables, see `TableNames`. A statement ends with a semicolon at the end of a line.

They are written for SQLite. What Postgres calls otherwise is put in its words, so the steps of both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["POSTGRES", "statements", "steps"]

#: From SQLite's words to Postgres', in this order. Text is compared byte by byte, as SQLite and Python do. What SQLite
#: has by itself, the order in which rows were made, is a column of runs.
POSTGRES = {
    "CREATE TABLE {runs} (": "CREATE TABLE {runs} (\n    row_no BIGINT GENERATED ALWAYS AS IDENTITY,",
    "INTEGER PRIMARY KEY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TEXT": 'TEXT COLLATE "C"',
    " WITHOUT ROWID": "",
}


def steps() -> list[Path]:
    """Return the files in their order; the place in the list, from 1 on, is the version that a step leads to."""
    return sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def statements(step: Path, names: Mapping[str, str], replacements: Mapping[str, str] | None = None) -> list[str]:
    """Return the statements of a step, with the names of the tables filled in.

    Parameters:
        words: those of another dialect, by SQLite's.
    """
    lines = [line for line in step.read_text().splitlines() if not line.lstrip().startswith("--")]
    text = "\n".join(lines)
    for ours, theirs in (replacements or {}).items():
        text = text.replace(ours, theirs)
    return [part.strip() for part in text.format(**names).split(";\n") if part.strip()]
