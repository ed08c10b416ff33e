"""A SQLite file as storage: transactions of the writer, reads, and a cheap test for changes.

The file is in WAL mode, so readers never wait for the writer. One connection writes, in the writer's thread; readers
borrow connections from a pool. Every use of a connection is within `fork_gate.use`, see `sqlite_connections`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from desist.db.backends import sqlite_schema
from desist.db.backends.base import ChangeDetector
from desist.db.backends.sqlite_connections import Connection, ConnectionPool, fork_gate
from desist.db.backends.sqlite_schema import describe_error, is_busy
from desist.db.migrations.report import SchemaReport
from desist.db.process.notifier import channel
from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import TableNames
from desist.db.writer import BackendBusy, WriteJob, perform
from desist.exceptions import StoreError

__all__ = ["SqliteBackend"]


class SqliteBackend:
    """A file and its connections.

    Parameters:
        timeout: seconds to wait for other processes, when the file is opened and when it is read.

    Raises:
        StoreError: the file can't be used; the message names the file and the reason.
    """

    apart = False  # a transaction locks the whole file anyway
    poll_interval = 0.25

    def __init__(self, path: Path, names: TableNames, timeout: float) -> None:
        self.path, self.names, self.name = path, names, str(path)
        self._side_files = f"{path}-wal", f"{path}-shm"
        self._timeout = timeout
        self._connections = ConnectionPool(path, names)
        self._writing: Connection | None = None  #: of the writer's thread; closed by a fork
        self._prepare()
        self._known = _identity(path)  #: which file it is

    def _prepare(self) -> None:
        """Make sure that the file exists and has the tables; wait for other processes that do the same."""
        try:
            if self.path.is_dir():
                raise StoreError(f"{self.name} is a folder: db_file= must name a file")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sqlite_schema.make_private(self.path)
        except OSError as error:
            raise StoreError(f"{self.name}: its folder can't be used: {error}") from error
        until = time.monotonic() + self._timeout
        while True:
            try:
                with self._connected() as connection:
                    sqlite_schema.migrate(connection, self.name, self.names)
                return
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > until:
                    raise StoreError(describe_error(self.name, error)) from error

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with fork_gate.use(self.path):
            connection = self._connections.open()
            try:
                yield connection
            finally:
                connection.close()

    # -- writing, in the writer's thread

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs in one transaction. If a job asks for it, the transaction is on the disk when this returns."""
        try:
            with fork_gate.use(self.path):
                if self._writing is None or self._writing.closed:
                    self._writing = self._connections.open()
                connection = self._writing
                self._check_file()
                full_sync = any(job.durable for job in jobs)
                if full_sync is not connection.full_sync:  # only possible outside of a transaction
                    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
                    connection.full_sync = full_sync
                return self._transact(connection, jobs)
        except sqlite3.Error as error:
            if is_busy(error):
                raise BackendBusy(str(error)) from error
            raise StoreError(describe_error(self.name, error)) from error

    def _transact(self, connection: Connection, jobs: Sequence[WriteJob]) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._check_side_files(connection)
            results = perform(jobs, connection.tables)
            connection.execute("COMMIT")
            self._check_side_files(connection)  # a commit into a log that was removed is not stored
            return results
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _check_file(self) -> None:
        """Refuse a file that was removed: SQLite would go on writing into the removed file.

        Raises:
            StoreError: the file is missing, or is another one.
        """
        now = _identity(self.name)
        self._known = self._known or now
        if now is None or now != self._known:
            raise StoreError(f"{self.name} was removed or replaced while it was in use: put it back, or start anew")

    def _check_side_files(self, connection: Connection) -> None:
        """Refuse a log (`-wal`) that was removed: this process would write into it, and others into a new one.

        The files stay while any connection to the database is open, so for a connection in a transaction they change
        only if a person or another program has removed them.

        Raises:
            StoreError: the files are missing, or are others.
        """
        now = _identity(self._side_files[0]), _identity(self._side_files[1])
        if connection.side_files is None:  # its first transaction has just opened them
            connection.side_files = now
        if now != connection.side_files:
            raise StoreError(
                f"{self.name}-wal or -shm was removed or replaced while it was in use: the last writes may be lost."
                " End all processes that use the database, run `desist db check`, and start anew"
            )

    def detach(self) -> Callable[[], None]:
        """Forget the writer's connection, and return a function that closes it."""
        connection, self._writing = self._writing, None
        return lambda: _close(self.path, connection)

    # -- reading, in any thread

    @contextmanager
    def reading(self) -> Iterator[SqlTables]:
        """Return the tables for one read, in one transaction: everything that the read sees is consistent."""
        try:
            with fork_gate.use(self.path):
                connection = self._connections.borrow(self._timeout)
                try:
                    connection.execute("BEGIN")
                    connection.execute(f"SELECT 1 FROM {self.names.schema}").fetchone()  # opens the side files
                    self._check_side_files(connection)
                    assert connection.tables is not None  # it is open
                    yield connection.tables
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    self._connections.give_back(connection)
        except sqlite3.Error as error:
            raise StoreError(describe_error(self.name, error)) from error

    reading_shared = reading

    def changes(self) -> ChangeDetector:
        """Return a detector that costs some microseconds for each question."""
        return _ChangeDetector(self.name, self._connections)

    def report(self) -> SchemaReport:
        """Check the tables and the file."""
        try:
            with self._connected() as connection:
                return sqlite_schema.report(connection, self.name, self.names)
        except sqlite3.Error as error:
            raise StoreError(describe_error(self.name, error)) from error

    def upgrade(self) -> SchemaReport:
        """Bring the tables to the version that this desist needs, and check them."""
        self._prepare()
        return self.report()

    # -- notifying other processes

    @property
    def address(self) -> str:
        """The address by which others notify this process."""
        return channel.address

    def listen(self) -> None:
        """Do nothing: the notifier listens."""

    @property
    def pushes(self) -> bool:
        """Whether this process is notified of what others write."""
        return channel.address != ""

    def wake(self, address: str) -> bool:
        """Notify another process; return False if that process has ended."""
        return channel.notify(address)

    # -- the end

    def close(self) -> None:
        """Close the readers' connections; the writer's connection is closed when its thread ends."""
        with suppress(StoreError), fork_gate.use(self.path):
            self._connections.close_idle(finally_=True)

    def __del__(self) -> None:
        if hasattr(self, "_connections"):
            self.close()


def _close(path: Path, connection: Connection | None) -> None:
    """Close a connection, but not one that a forked child has inherited and must not close."""
    if connection is not None:
        with suppress(StoreError), fork_gate.use(path):
            connection.close()


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Return what distinguishes a file from another one of the same name, or None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _ChangeDetector:
    """Detects writes of other connections by `data_version`, a counter that each connection has for itself.

    Raises:
        StoreError: the file can't be opened.
    """

    every = 0.015
    cheap = True

    def __init__(self, name: str, connections: ConnectionPool) -> None:
        self._name, self._connections = name, connections
        self._connection: Connection | None = None  #: closed by a fork
        self._seen = -1
        self._version()

    def _version(self) -> int:
        try:
            with fork_gate.use(self._connections.path):
                if self._connection is None or self._connection.closed:
                    self._connection, self._seen = self._connections.open(), -1
                return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise StoreError(describe_error(self._name, error)) from error

    def seen(self) -> bool:
        """Return whether the file may have changed since the last call. True for the first call, and after a fork."""
        version = self._version()
        before, self._seen = self._seen, version
        return version != before

    def close(self) -> None:
        """Close the connection."""
        _close(self._connections.path, self._connection)
