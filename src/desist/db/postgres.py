"""`PostgresDb` and `AsyncPostgresDb`: sessions and runs in a Postgres, which processes on any machine may share.

The store is the same as over SQLite (`desist.db.store.shared_table_store`). `desist.db.process.postgres_target` knows
the server, `desist.db.backends.postgres` has the connections, `desist.db.tables.postgres` the dialect.
"""

from __future__ import annotations

import re

from desist.db.backends.postgres import PostgresBackend
from desist.db.process.postgres_target import PostgresTarget
from desist.db.sql_base import AsyncSqlDb, SqlDb, names_after
from desist.db.store.shared_table_store import SharedTableStore
from desist.exceptions import ConfigurationError

__all__ = ["AsyncPostgresDb", "PostgresDb"]


#: The maximum length of a name that other names begin with: Postgres cuts names after 63 characters.
LONGEST = 40


class PostgresDb(SqlDb):
    """A database of a Postgres server, version 12 or newer. Needs the extra `postgres`.

    Parameters:
        db_url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, also with `+psycopg` after the scheme. Parameters of
            libpq may follow a `?`, such as `sslmode=verify-full`.
        db_schema: the schema of the tables; created if necessary. Default: the schema of the connection.
        session_table: the name of the table of sessions; the names of the others begin with it. Default:
            `desist_sessions`, `desist_runs`, `desist_run_parts` and so on.
        timeout: seconds to wait for a write, as for `SqliteDb`. Reads wait as long for a server that is away. Objects
            for the same tables share the timeout of the first one.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreError: the database can't be used: it does not exist, refuses this user, is of a newer desist, or is
            read-only.
    """

    def __init__(
        self, db_url: str, *, db_schema: str | None = None, session_table: str | None = None, timeout: float = 10.0
    ) -> None:
        target, names = PostgresTarget(db_url), names_after(session_table)
        if db_schema is not None and not re.fullmatch(r"[A-Za-z_]\w{0,62}", db_schema, re.ASCII):
            raise ConfigurationError(f"db_schema={db_schema!r} must be a name: letters, digits and _")
        if session_table is not None and len(session_table) > LONGEST:
            raise ConfigurationError(f"session_table={session_table!r} must have at most {LONGEST} letters")
        key = ("postgres", target.settings, db_schema, names)
        super().__init__(
            key,
            lambda patience: SharedTableStore(PostgresBackend(target, db_schema, names, patience), patience),
            timeout,
            db_url=db_url,
            db_schema=db_schema,
            session_table=session_table,
        )
        self.db_url, self.db_schema = db_url, db_schema


class AsyncPostgresDb(AsyncSqlDb):
    """A database of a Postgres server, with async methods. Parameters and errors as for `PostgresDb`."""

    def __init__(
        self, db_url: str, *, db_schema: str | None = None, session_table: str | None = None, timeout: float = 10.0
    ) -> None:
        super().__init__(PostgresDb(db_url, db_schema=db_schema, session_table=session_table, timeout=timeout))
        self.db_url, self.db_schema = db_url, db_schema
