"""Shell completion of run ids, from a SQLite file only: a server or another database would be too slow."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

__all__ = ["Run", "run_ids"]

_MOST = 50


def run_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the newest runs whose ids start with `incomplete`, with a description. Errors return no runs."""
    try:
        return _found(ctx.params.get("db"), incomplete)
    except Exception:
        return []


def _found(db: str | None, incomplete: str) -> list[tuple[str, str]]:
    target = db or os.environ.get("DESIST_DB") or "desist.db"
    if "://" in target.removeprefix("sqlite:///") or not os.path.isfile(target.removeprefix("sqlite:///")):
        return []
    import sqlite3

    path = os.path.abspath(os.path.expanduser(target.removeprefix("sqlite:///")))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)
    try:
        rows: list[Any] = connection.execute(
            "SELECT run_id, status, owner_id FROM desist_runs WHERE parent_run_id IS NULL"
            " AND substr(run_id, 1, ?) = ? ORDER BY created_at DESC LIMIT ?",
            (len(incomplete), incomplete, _MOST),
        ).fetchall()
    finally:
        connection.close()
    return [(run_id, f"{status} {owner or ''}".strip()) for run_id, status, owner in rows]


#: The argument that names a run.
Run = Annotated[str, typer.Argument(help="Its id.", metavar="RUN", autocompletion=run_ids, show_default=False)]
