"""Open a client or a database from options and environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from desist.exceptions import ConfigurationError
from desist.run.records.redact import redact

if TYPE_CHECKING:
    from desist.cli.client.base import RunClient
    from desist.db.base import BaseDb

__all__ = ["default_database", "display_name", "open_client", "open_database"]

_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_DEFAULT = "desist.db"


def open_client(db: str | None, server: str | None, token: str | None) -> RunClient:
    """Return a client for --db or --server, else for DESIST_SERVER or DESIST_DB, else for `desist.db` in this folder.

    Raises:
        ConfigurationError: both or neither are set, or the value is invalid.
        StoreError: the database can't be opened.
    """
    if db is not None and server is not None:
        raise ConfigurationError("--db and --server exclude each other: use one of them")
    if db is None and server is None:
        db, server = os.environ.get("DESIST_DB") or None, os.environ.get("DESIST_SERVER") or None
        if db is not None and server is not None:
            raise ConfigurationError("DESIST_DB and DESIST_SERVER are both set: pass --db or --server to choose one")
    if server is not None:
        from desist.cli.client.http import HttpClient
        from desist.cli.client.server import ServerClient

        return ServerClient(HttpClient(server, token or os.environ.get("DESIST_TOKEN") or None))
    from desist.cli.client.database import DatabaseClient

    target = db or default_database()
    return DatabaseClient(open_database(target), display_name(target))


def default_database() -> str:
    """Return `desist.db` in this folder.

    Raises:
        ConfigurationError: there is no such file.
    """
    if not Path(_DEFAULT).is_file():
        raise ConfigurationError(
            "no database or server: pass --db FILE_OR_URL or --server URL, or set DESIST_DB or DESIST_SERVER"
        )
    return _DEFAULT


def open_database(target: str, *, new: bool = False) -> BaseDb:
    """Return an existing database; with `new`, a missing file is created.

    Raises:
        ConfigurationError: the database doesn't exist, or `target` is invalid.
        StoreError: it can't be opened.
    """
    if target.startswith(_POSTGRES):
        from desist.db import PostgresDb

        return PostgresDb(db_url=target)
    from desist.db import SqliteDb

    path = target.removeprefix("sqlite+aiosqlite:").removeprefix("sqlite:")
    path = path.removeprefix("///") if path != target else path
    if "://" in path:
        raise ConfigurationError(
            f"--db {display_name(target)} isn't known: give a file, sqlite:///FILE or postgresql://..."
        )
    if not new and not Path(path).expanduser().exists():
        raise ConfigurationError(f"--db {display_name(target)}: there is no such file")
    return SqliteDb(path)


def display_name(target: str) -> str:
    """Return a file or URL for display, without its password."""
    return redact(target)
