"""Databases of the tests, and looking at them or changing them behind everybody's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg

from desist.db import AsyncPostgresDb, AsyncSqliteDb, PostgresDb, SqliteDb

Db = SqliteDb | PostgresDb


def open_db(place: str) -> Db:
    """Open a URL or a file."""
    return PostgresDb(place, timeout=20) if "://" in place else SqliteDb(place, timeout=20)


def open_async(place: str) -> AsyncPostgresDb | AsyncSqliteDb:
    """Do the same for async code."""
    return AsyncPostgresDb(place, timeout=20) if "://" in place else AsyncSqliteDb(place, timeout=20)


def execute(place: str, statement: str, *values: Any) -> list[Any]:
    """Execute a statement; return the rows that it gives."""
    if "://" in place:
        with psycopg.connect(place) as server:
            done: Any = server.execute(statement.replace("?", "%s").encode(), values)
            return list(done.fetchall()) if done.description is not None else []
    with closing(sqlite3.connect(place, timeout=30)) as connection, connection:
        return list(connection.execute(statement, values).fetchall())


def taken_for_dead(place: str, pid: int) -> None:
    """Let the lease of a process be over."""
    until = 0  # ended, and nobody need wait
    execute(place, "UPDATE desist_owners SET until = ? WHERE process LIKE ?", until, f"%|{pid}|%")
