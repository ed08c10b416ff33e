"""Databases of each kind, opened by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from desist.db import BaseDb, InMemoryDb, JsonDb, PostgresDb, SqliteDb


def open_database(kind: str, folder: Path, new_postgres: Callable[[], str]) -> BaseDb:
    """Return a new, empty database of a kind: `sqlite`, `postgres`, `json` or `memory`."""
    kinds: dict[str, Callable[[], BaseDb]] = {
        "sqlite": lambda: SqliteDb(folder / "runs.db"),
        "postgres": lambda: PostgresDb(new_postgres()),
        "json": lambda: JsonDb(folder / "runs"),
        "memory": InMemoryDb,
    }
    return kinds[kind]()
