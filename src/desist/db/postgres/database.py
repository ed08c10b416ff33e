"""`PostgresDb` and `AsyncPostgresDb`."""

from __future__ import annotations

import re

from desist.db.backends.postgres import PostgresBackend
from desist.db.process.postgres_target import PostgresTarget
from desist.db.sql_base import AsyncSqlDb, SqlDb, names_after
from desist.db.store.shared_table_store import SharedTableStore
from desist.exceptions import ConfigurationError

__all__ = ["AsyncPostgresDb", "PostgresDb"]


#: Letters of a name, so that those that are made of it keep apart: Postgres cuts them after 63.
LONGEST = 40


class PostgresDb(SqlDb):
    """A database of a Postgres server, version 12 or newer. Needs the extra `postgres`.

    Parameters:
        db_url: where it is: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, also with `+psycopg` after the scheme.
            Parameters of libpq may follow a `?`, such as `sslmode=verify-full`.
        db_schema: the schema that holds the tables; it is made if it isn't there. Default: that of the connection.
        session_table: what the table of sessions is called; the others are called after it. Default:
            `desist_sessions`, `desist_runs`, `desist_run_parts` and so on.
        timeout: seconds after which whoever waits for a write is told that it isn't done: the end of a run is then
            told without being stored, and says so. Looks wait as long for a server that is away. Objects for the same
            tables share the first one's.

    Raises:
        MissingExtraError: psycopg isn't installed.
        StoreError: the database can't be used: not there, not let in, of a newer desist, not to be written.
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
    """A database of a Postgres server, with methods that are awaited. Parameters and errors as for `PostgresDb`."""

    def __init__(
        self, db_url: str, *, db_schema: str | None = None, session_table: str | None = None, timeout: float = 10.0
    ) -> None:
        super().__init__(PostgresDb(db_url, db_schema=db_schema, session_table=session_table, timeout=timeout))
        self.db_url, self.db_schema = db_url, db_schema
