"""The tables in a Postgres database: created, upgraded and checked. Used when a database is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from desist.db.migrations import POSTGRES, statements, steps
from desist.db.migrations.report import SchemaReport, too_new
from desist.db.process.postgres_target import PostgresTarget
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Schema"]


class Schema:
    """The tables of one database.

    Parameters:
        schema: the schema of the tables; None: the schema of the connection.
    """

    def __init__(self, target: PostgresTarget, schema: str | None, names: TableNames) -> None:
        self._target, self._schema, self._names = target, schema, names
        self._current = "public"
        #: the end of the statement that begins a transaction on the tables
        self.path = f'; SET LOCAL search_path = "{schema}"' if schema is not None else ""

    def name(self) -> str:
        """Return the schema of the tables. After `prepare`."""
        return self._schema or self._current

    def prepare(self, timeout: float) -> psycopg.Connection[Any]:
        """Make sure that the tables exist and have this version; one process at a time changes them.

        Returns:
            The connection that was used, for the caller to use and close.

        Raises:
            StoreError: the tables can't be used.
        """
        import psycopg

        connection = self._target.connect_within(timeout)
        try:
            if self._version_in(connection) < len(steps()):
                self._upgrade(connection)
            self._try_to_write(connection)
            row = connection.execute("SELECT current_schema()", prepare=False).fetchone()
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise StoreError(self._target.format_error(error)) from error
            raise
        self._current = str(row[0]) if row is not None else self._current
        return connection

    def _version_in(self, connection: psycopg.Connection[Any]) -> int:
        """Return the version of the tables.

        Raises:
            StoreError: the version is newer than this desist.
        """
        with connection.transaction():
            connection.execute(f"SELECT 1{self.path}".encode(), prepare=False)
            version = self._version(connection)
        if version > len(steps()):
            raise StoreError(too_new(self._target.name, version))
        return version

    def _version(self, connection: psycopg.Connection[Any]) -> int:
        there = connection.execute("SELECT to_regclass(%s)", (self._names.schema,)).fetchone()
        if there is None or there[0] is None:
            return 0
        row = connection.execute(f"SELECT version FROM {self._names.schema}".encode()).fetchone()
        return int(row[0]) if row else 0

    def _upgrade(self, connection: psycopg.Connection[Any]) -> None:
        known = steps()
        with connection.transaction():
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            connection.execute(lock, (f"desist {self._schema} {self._names.schema}",))
            if self._schema is not None:
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"'.encode())
            connection.execute(f"SELECT 1{self.path}".encode(), prepare=False)
            name = self._names.schema
            # First: makes the server look up again which tables exist, which waiting for the lock does not.
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (version BIGINT NOT NULL)".encode())
            done = self._version(connection)  # another process may have been faster
            for step in known[done:]:
                for statement in statements(step, self._names.as_dict(), POSTGRES):
                    connection.execute(statement.encode())
            if done < len(known):
                connection.execute(f"DELETE FROM {name}".encode())
                connection.execute(f"INSERT INTO {name} VALUES (%s)".encode(), (len(known),))

    def _try_to_write(self, connection: psycopg.Connection[Any]) -> None:
        """Fail now, and not in the middle of a run, if the tables can't be written."""
        with connection.transaction(force_rollback=True):
            connection.execute(f"SELECT 1{self.path}".encode(), prepare=False)
            connection.execute(f"DELETE FROM {self._names.intents} WHERE run_id = ''".encode())

    # -- checking

    def report(self, connection: psycopg.Connection[Any]) -> SchemaReport:
        """Return the version of the tables and their problems.

        Raises:
            StoreError: the tables can't be read.
        """
        import psycopg

        try:
            version = self._version_in(connection)
            with connection.transaction():
                connection.execute(f"SELECT 1{self.path}".encode(), prepare=False)
                problems = self._problems(connection)
        except psycopg.Error as error:
            raise StoreError(self._target.format_error(error)) from error
        return SchemaReport(self._target.name, version, len(steps()), problems)

    def _problems(self, connection: psycopg.Connection[Any]) -> list[str]:
        names = list(self._names.as_dict().values())
        found = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL"
        problems = [f"the table {row[0]} is missing" for row in connection.execute(found, (names,)).fetchall()]
        broken = (
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready)"
            " AND indrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)"
        )
        problems += [f"the index {row[0]} is invalid: REINDEX it" for row in connection.execute(broken, (names,))]
        off = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"
        return [
            *problems,
            *(f"{row[0]} of the server is off: a crash of its machine loses data" for row in connection.execute(off)),
        ]
