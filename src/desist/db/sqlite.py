"""`SqliteDb` and `AsyncSqliteDb`: sessions and runs in a SQLite file, which processes may share."""

from __future__ import annotations

from pathlib import Path

from desist.db.backends.sqlite import SqliteBackend
from desist.db.sql_base import AsyncSqlDb, SqlDb, names_after
from desist.db.store.shared_table_store import SharedTableStore
from desist.exceptions import ConfigurationError
from desist.run.records.redact import redact

__all__ = ["AsyncSqliteDb", "SqliteDb"]

_URL = "sqlite:///"


class SqliteDb(SqlDb):
    """A SQLite file.

    Parameters:
        db_file: the file; the file and its folder are created if necessary. Default: `desist.db` in the current folder.
        db_url: the same as `sqlite:///PATH`.
        session_table: the name of the table of sessions; the names of the others begin with it. Default:
            `desist_sessions`, `desist_runs`, `desist_run_parts` and so on.
        timeout: seconds to wait for a write. After that the caller goes on: a run then ends without being stored, and
            its output says so. Objects for the same file share the timeout of the first one.

    Raises:
        StoreError: the file can't be used: it is a folder, damaged, of a newer desist, or read-only. Nothing in it is
            changed.
    """

    def __init__(
        self,
        db_file: str | Path | None = None,
        *,
        db_url: str | None = None,
        session_table: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        path = _path(db_file, db_url).resolve()
        names = names_after(session_table)
        key = ("sqlite", path, names)
        super().__init__(
            key,
            lambda patience: SharedTableStore(SqliteBackend(path, names, patience), patience),
            timeout,
            db_file=path,
            session_table=session_table,
        )
        self.db_file = path


class AsyncSqliteDb(AsyncSqlDb):
    """A SQLite file, with async methods. Parameters and errors as for `SqliteDb`."""

    def __init__(
        self,
        db_file: str | Path | None = None,
        *,
        db_url: str | None = None,
        session_table: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        db = SqliteDb(db_file, db_url=db_url, session_table=session_table, timeout=timeout)
        super().__init__(db)
        self.db_file = db.db_file


def _path(db_file: str | Path | None, db_url: str | None) -> Path:
    if db_file is not None and db_url is not None:
        raise ConfigurationError("pass either db_file= or db_url= to a SqliteDb, not both")
    if db_url is not None:
        plain = db_url.replace("sqlite+aiosqlite:", "sqlite:", 1)
        if not plain.startswith(_URL) or plain == _URL:
            raise ConfigurationError(f"db_url={redact(db_url)!r} must look like 'sqlite:///PATH'")
        db_file = plain[len(_URL) :]
    if db_file is not None and str(db_file).startswith(":memory:"):
        raise ConfigurationError("db_file=':memory:' can't be shared by threads: use InMemoryDb()")
    return Path(db_file if db_file is not None else "desist.db").expanduser()
