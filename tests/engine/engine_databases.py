"""Databases of these tests, by their URLs."""

from __future__ import annotations

from typing import Any

from desist import db


def open_db(url: str) -> Any:
    """Return the database: a SQLite file or a Postgres."""
    if url.startswith("postgresql"):
        return db.PostgresDb(db_url=url, timeout=20)
    return db.SqliteDb(db_url=url, timeout=20)
