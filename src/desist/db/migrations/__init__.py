"""The numbered steps from an empty database to the version that this desist needs: `0001_begin.sql` and so on.

A released step is never changed; a later change is a new step. `{sessions}`, `{runs}` and so on stand for the names of
the tables, see `TableNames`. A statement ends with a semicolon at the end of a line. The steps are written for SQLite;
`POSTGRES` translates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["POSTGRES", "statements", "steps"]

#: Words of SQLite and those of Postgres, replaced in this order. Text is compared byte by byte, as in SQLite and in
#: Python.
#: The order in which rows were created, which SQLite knows, is a column of the runs.
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
    """Return the files in order; the position in the list, from 1 on, is the version that a step leads to."""
    return sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def statements(step: Path, names: Mapping[str, str], replacements: Mapping[str, str] | None = None) -> list[str]:
    """Return the statements of a step, with the names of the tables.

    Parameters:
        replacements: words of another dialect, by those of SQLite.
    """
    lines = [line for line in step.read_text().splitlines() if not line.lstrip().startswith("--")]
    text = "\n".join(lines)
    for ours, theirs in (replacements or {}).items():
        text = text.replace(ours, theirs)
    return [part.strip() for part in text.format(**names).split(";\n") if part.strip()]
