"""Where the harness's runs are recorded: how any of its processes opens that, from one word on its command line."""

from __future__ import annotations

from typing import Any

from desist.db import PostgresDb, SqliteDb

__all__ = ["PATIENCE", "open_db"]

#: Seconds that the harness's processes wait for a write: longer than any fault lasts.
PATIENCE = 20.0


def open_db(url: str) -> Any:
    """Open a database by its URL."""
    kind = PostgresDb if url.startswith("postgresql") else SqliteDb
    return kind(db_url=url, timeout=PATIENCE)
