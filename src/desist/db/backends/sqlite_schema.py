"""The tables of a SQLite file: created, upgraded and checked. Used when a database is opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from desist.db.backends.sqlite_connections import Connection
from desist.db.migrations import statements, steps
from desist.db.migrations.report import SchemaReport, too_new
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import StoreError

__all__ = ["describe_error", "is_busy", "make_private", "migrate", "report"]

_HINTS = {
    sqlite3.SQLITE_NOTADB: "this is not a SQLite database; it was left as it is. Pass another db_file=",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; it was left as it is. Restore a copy, or try `.recover`",
    sqlite3.SQLITE_READONLY: "it can't be written: check the owner of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: check the owner of the file and its folder",
    sqlite3.SQLITE_FULL: "the disk is full",
}


def make_private(path: Path) -> None:
    """Create an empty file that only this user can read, if there is none. SQLite gives `-wal` and `-shm` its mode.

    An existing file keeps its mode: it may be shared on purpose. It is not opened, because closing it would end the
    locks of this process on it. If the file can't be created, SQLite will say why.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def migrate(connection: Connection, name: str, names: TableNames) -> None:
    """Bring the tables to the version that this desist needs, and verify that the file can be written.

    Raises:
        StoreError: the tables are of a newer version.
        sqlite3.Error: the file can't be used, or another process is using it.
    """
    known = steps()
    version = _version(connection, names)
    if version == len(known):
        _try_to_write(connection)
        return
    if version > len(known):
        raise StoreError(too_new(name, version))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for step in known[_version(connection, names) :]:  # another process may have been faster
        for statement in statements(step, names.as_dict()):
            connection.execute(statement)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {names.schema} (version INTEGER NOT NULL)")
    connection.execute(f"DELETE FROM {names.schema}")
    connection.execute(f"INSERT INTO {names.schema} VALUES (?)", (len(known),))
    connection.execute("COMMIT")


def _try_to_write(connection: Connection) -> None:
    """Fail now, and not in the middle of a run, if the file can't be written. Another writing process is no failure."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if not is_busy(error):
            raise


def _version(connection: Connection, names: TableNames) -> int:
    """Return the version of the tables. It is in a table of its own: the file may also be a program's own."""
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (names.schema,)).fetchone()
    row = connection.execute(f"SELECT version FROM {names.schema}").fetchone() if there else None
    return int(row[0]) if row else 0


def report(connection: Connection, name: str, names: TableNames) -> SchemaReport:
    """Return the version of the tables, and the problems of the file.

    Raises:
        sqlite3.Error: the file can't be read.
    """
    version = _version(connection, names)
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    problems += [f"the table {table} is missing" for table in names.as_dict().values() if table not in known]
    return SchemaReport(name, version, len(steps()), problems)


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process uses the file, so that trying again helps."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def describe_error(name: str, error: sqlite3.Error) -> str:
    """Say what is wrong with which file, and what to do."""
    hint = _HINTS.get(_code(error))
    return f"{name}: {hint} ({error})" if hint else f"{name}: {error}"


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error, or -1 for an error of the Python module."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF
