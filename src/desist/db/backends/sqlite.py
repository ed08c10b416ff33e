"""One SQLite file of this process: its connections, its schema, its errors. Used by all databases on that file.

WAL, so that readers never wait. One connection writes, in the writer's thread; looks borrow one from a pool. In a
forked child nothing of the parent is used, or closed: that would end the parent's locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from desist.db.migrations import statements, steps
from desist.db.migrations.report import SchemaReport, too_new
from desist.db.process.notifier import channel
from desist.db.tables.base import ChangeDetector
from desist.db.tables.sql import SqlTables, TableNames
from desist.db.writer import BackendBusy, WriteJob
from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["SqliteBackend", "make_private"]

#: Milliseconds that SQLite itself waits for another process; whoever calls tries again.
BUSY_MS = 200
#: Connections that are kept for readers.
POOL = 4
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

#: Connections of a parent process, kept so that they are never closed in its forked child.
_inherited: list[Any] = []


class _Connection(sqlite3.Connection):
    """A connection that knows which files beside the database it has opened."""

    beside: tuple[Any, ...] | None = None  #: what tells them from others of the same names; None: not opened yet


def make_private(path: Path) -> None:
    """Make an empty file that only this user can read, unless there is one. SQLite gives `-wal` and `-shm` its mode.

    One that is there keeps its mode: others may share it on purpose. It isn't opened: closing it would end this
    process's locks on it. Where none can be made, SQLite says why.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


class SqliteBackend:
    """A file and its connections.

    Raises:
        StoreError: it can't be used; the message names the file and says why.
    """

    apart = False  # a transaction locks the whole file anyway

    def __init__(self, path: Path, names: TableNames, timeout: float) -> None:
        self.path, self.names, self.name = path, names, str(path)
        self._patience = timeout
        self.in_transaction = threading.RLock()  #: held by the writer during a transaction, and by a fork
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._writing: _Connection | None = None
        self._full = False  #: whether the writing connection waits for the disk
        self._closed = False
        self._prepare()
        self._known = _identity(path)  #: which file it is
        _files.add(self)

    # -- opening

    def _prepare(self) -> None:
        """See that the file is there, is ours and has the tables; wait for another process that is at it."""
        try:
            if self.path.is_dir():
                raise StoreError(f"{self.name} is a folder: db_file= must name a file")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            make_private(self.path)
        except OSError as error:
            raise StoreError(f"{self.name}: its folder can't be used: {error}") from error
        until = time.monotonic() + self._patience
        while True:
            try:
                self._migrate()
                return
            except sqlite3.Error as error:
                if _code(error) not in _BUSY or time.monotonic() > until:
                    raise StoreError(self._format_error(error)) from error

    def _migrate(self) -> None:
        with self._connected() as connection:
            known = steps()
            version = self._version(connection)
            if version == len(known):
                self._try_to_write(connection)
                return
            if version > len(known):
                raise StoreError(too_new(self.name, version))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for step in known[self._version(connection) :]:  # another process may have been quicker
                for statement in statements(step, self.names.as_dict()):
                    connection.execute(statement)
            connection.execute(f"CREATE TABLE IF NOT EXISTS {self.names.schema} (version INTEGER NOT NULL)")
            connection.execute(f"DELETE FROM {self.names.schema}")
            connection.execute(f"INSERT INTO {self.names.schema} VALUES (?)", (len(known),))
            connection.execute("COMMIT")

    def _try_to_write(self, connection: sqlite3.Connection) -> None:
        """Fail now and not in mid-run if the file can't be written. That another process writes just now is fine."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if _code(error) not in _BUSY:
                raise

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return which step the tables stand at. A table of our own: the file may be a program's own, too."""
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (self.names.schema,)).fetchone()
        row = connection.execute(f"SELECT version FROM {self.names.schema}").fetchone() if there else None
        return int(row[0]) if row else 0

    @contextmanager
    def _connected(self) -> Iterator[_Connection]:
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    def _connect(self, timeout: float = BUSY_MS / 1000) -> _Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            factory=_Connection,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    # -- writing

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs in one transaction, on the disk before this returns if one of them asks for it."""
        try:
            connection = self._writing = self._writing or self._connect()
            self._check_file()
            full = any(job.durable for job in jobs)
            if full is not self._full:  # only outside of a transaction
                connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
                self._full = full
            with self.in_transaction:  # no fork happens meanwhile: see `_before_fork`
                return self._transact(connection, jobs)
        except sqlite3.Error as error:
            if _code(error) in _BUSY:
                raise BackendBusy(str(error)) from error
            raise StoreError(self._format_error(error)) from error

    def _transact(self, connection: _Connection, jobs: Sequence[WriteJob]) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._check_beside(connection)
            tables = SqlTables(connection, self.names)
            results = [job.work(tables) for job in jobs]
            connection.execute("COMMIT")
            self._check_beside(connection)  # nothing is said to be stored that went into a log that is gone
            return results
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _check_file(self) -> None:
        """SQLite goes on writing into a file that was removed: what it says is done would be gone.

        Raises:
            StoreError: the file isn't there, or is another one.
        """
        now = _identity(self.path)
        self._known = self._known or now
        if now is None or now != self._known:
            raise StoreError(f"{self.name} was removed or replaced while it was in use: put it back, or start anew")

    def _check_beside(self, connection: _Connection) -> None:
        """SQLite goes on writing into a log (`-wal`) that was removed, and others read and write another one.

        The files stay as long as any connection to the database is open, so those of a connection in a transaction
        never change but by somebody's hand.

        Raises:
            StoreError: they aren't there, or are others.
        """
        now = tuple(_identity(self.path.with_name(self.path.name + end)) for end in ("-wal", "-shm"))
        if connection.beside is None:  # its first transaction has just opened them
            connection.beside = now
        if now != connection.beside:
            raise StoreError(
                f"{self.name}-wal or -shm was removed or replaced while it was in use: what was written last may be"
                " lost. End all processes that use the database, see `desist db check`, and start anew"
            )

    def detach(self) -> Callable[[], None]:
        """Part with the connection that writes."""
        connection, self._writing, self._full = self._writing, None, False
        return connection.close if connection is not None else lambda: None

    # -- reading

    @contextmanager
    def reading(self) -> Iterator[SqlTables]:
        """Lend the tables for one look: all that it sees belongs together."""
        try:
            connection = self._borrow()
            try:
                connection.execute("BEGIN")
                connection.execute(f"SELECT 1 FROM {self.names.schema}").fetchone()  # now the files are open
                self._check_beside(connection)
                yield SqlTables(connection, self.names)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)
        except sqlite3.Error as error:
            raise StoreError(self._format_error(error)) from error

    def _borrow(self) -> _Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.name} is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect(self._patience)  # readers wait for nobody but a recovery after a crash

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < POOL:
                self._idle.append(connection)
                return
        connection.close()

    # -- looking it over

    def upgrade(self) -> SchemaReport:
        """Bring the tables to what this version needs, and look them over."""
        self._prepare()
        return self.report()

    def report(self) -> SchemaReport:
        """Say at which step the tables stand, and what is wrong with the file."""
        try:
            with self._connected() as connection:
                version = self._version(connection)
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
                known = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        except sqlite3.Error as error:
            raise StoreError(self._format_error(error)) from error
        missing = [f"the table {name} is missing" for name in self.names.as_dict().values() if name not in known]
        problems = [problem for problem in found if problem != "ok"] + missing
        return SchemaReport(self.name, version, len(steps()), problems)

    def changes(self) -> ChangeDetector:
        """Return something that tells whether any connection has written, for a few microseconds a question."""
        try:
            return _ChangeDetector(self._connect())
        except sqlite3.Error as error:
            raise StoreError(self._format_error(error)) from error

    # -- waking other processes

    poll_interval = 0.25
    reading_shared = reading

    @property
    def address(self) -> str:
        """Where this process is woken."""
        return channel.address

    def listen(self) -> None:
        """The channel does."""

    def wake(self, address: str) -> None:
        """Wake another process."""
        channel.notify(address)

    # -- the end

    def close(self) -> None:
        """Close the readers' connections; the writer's is closed when its thread ends."""
        with self._lock:
            self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close the readers' connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):  # else it could not be opened
            self.drop_idle()

    def _format_error(self, error: sqlite3.Error) -> str:
        """Say what is wrong with which file, and what to do."""
        hint = {
            sqlite3.SQLITE_NOTADB: "this is no SQLite database; it was left as it is. Give another db_file=",
            sqlite3.SQLITE_CORRUPT: "the database is damaged; it was left as it is. Restore a copy, or try `.recover`",
            sqlite3.SQLITE_READONLY: "it can't be written: see who owns the file and its folder",
            sqlite3.SQLITE_CANTOPEN: "it can't be opened: see who owns the file and its folder",
            sqlite3.SQLITE_FULL: "the disk is full",
        }.get(_code(error))
        return f"{self.name}: {hint} ({error})" if hint else f"{self.name}: {error}"

    def reset_after_fork(self) -> None:
        """Start anew in a forked child."""
        _inherited.extend([self._writing, *self._idle])
        self._lock = threading.Lock()
        self.in_transaction = threading.RLock()
        self._idle, self._writing, self._full = [], None, False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _ChangeDetector:
    """Whether others have written: `data_version` is a counter that each connection sees in its own way."""

    every = 0.015

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self._seen = connection, -1

    def seen(self) -> bool:
        """Return whether somebody has written since the last time."""
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error
        before, self._seen = self._seen, version
        return bool(version != before)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error, -1 for one of the module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


_files: weakref.WeakSet[SqliteBackend] = weakref.WeakSet()


#: Seconds for which a fork waits for the transaction of a writer.
FORK_TIMEOUT = 2.0
#: The locks that a thread holds while it forks.
_forking = threading.local()


def _before_fork() -> None:
    """Wait until no writer is in a transaction. In the thread that forks.

    SQLite notes in the memory of its process which connection holds the lock for writing. A child that is forked
    meanwhile has a copy of that note, which nothing ever clears: each of its own writes would find the file locked.
    """
    held = _forking.held = []
    for file in list(_files):
        held.append(file.in_transaction)  # first: a Ctrl-C that comes between must not leave the lock held
        file.in_transaction.acquire(timeout=FORK_TIMEOUT)


def _after_fork_in_parent() -> None:
    for lock in _forking.held:
        with contextlib.suppress(RuntimeError):  # not acquired in time, or not at all: only its owner can release it
            lock.release()


def _reset_after_fork() -> None:
    for file in list(_files):
        file.reset_after_fork()


def _drop_all() -> None:
    for file in list(_files):
        file.drop_idle()


register_at_exit(_drop_all)
register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_reset_after_fork)
