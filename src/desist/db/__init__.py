"""Databases for sessions and runs. The names are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from desist.lazy import lazy_names

if TYPE_CHECKING:
    from desist.db.base import AsyncBaseDb, BaseDb
    from desist.db.in_memory import InMemoryDb
    from desist.db.json import JsonDb
    from desist.db.postgres import AsyncPostgresDb, PostgresDb
    from desist.db.sqlite import AsyncSqliteDb, SqliteDb

_PLACES = {
    "AsyncBaseDb": "desist.db.base",
    "AsyncPostgresDb": "desist.db.postgres",
    "AsyncSqliteDb": "desist.db.sqlite",
    "BaseDb": "desist.db.base",
    "InMemoryDb": "desist.db.in_memory",
    "JsonDb": "desist.db.json",
    "PostgresDb": "desist.db.postgres",
    "SqliteDb": "desist.db.sqlite",
}

__all__ = [
    "AsyncBaseDb",
    "AsyncPostgresDb",
    "AsyncSqliteDb",
    "BaseDb",
    "InMemoryDb",
    "JsonDb",
    "PostgresDb",
    "SqliteDb",
]

__getattr__, __dir__ = lazy_names(__name__, _PLACES)
