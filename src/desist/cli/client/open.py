"""From what was typed, or stands in the environment, to a depot."""

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
    """Return where the runs are: what was typed, else what DESIST_SERVER or DESIST_DB says, else `desist.db` here.

    Raises:
        ConfigurationError: two places, none, or one that can't be.
        StoreError: the database can't be opened.
    """
    if db is not None and server is not None:
        raise ConfigurationError("--db and --server exclude each other: use one of them")
    if db is None and server is None:
        db, server = os.environ.get("DESIST_DB") or None, os.environ.get("DESIST_SERVER") or None
        if db is not None and server is not None:
            raise ConfigurationError("DESIST_DB and DESIST_SERVER are both set: say --db or --server")
    if server is not None:
        from desist.cli.client.http import HttpClient
        from desist.cli.client.server import ServerClient

        return ServerClient(HttpClient(server, token or os.environ.get("DESIST_TOKEN") or None))
    from desist.cli.client.database import DatabaseClient

    place = db or default_database()
    return DatabaseClient(open_database(place), display_name(place))


def default_database() -> str:
    if not Path(_DEFAULT).is_file():
        raise ConfigurationError(
            "say where the runs are: --db FILE_OR_URL or --server URL, or set DESIST_DB or DESIST_SERVER"
        )
    return _DEFAULT


def open_database(target: str, *, new: bool = False) -> BaseDb:
    """Return a database that is there; with `new`, a file is made if there is none.

    Raises:
        ConfigurationError: there is none.
        StoreError: it can't be opened.
    """
    if target.startswith(_POSTGRES):
        return _postgres(target)
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


def _postgres(url: str) -> BaseDb:
    import desist.db

    made = getattr(desist.db, "PostgresDb", None)
    if made is None:
        raise ConfigurationError("this version of desist has no PostgresDb: give --db a SQLite file")
    db: BaseDb = made(db_url=url)
    return db


def display_name(target: str) -> str:
    """Return a place without its password, for people."""
    return redact(target)
