"""The connections of this process to SQLite files: opened when needed, kept for reuse, closed before a fork.

SQLite records in the memory of the process which locks the process has on a file, for all its connections together, and
takes no lock a second time. A forked child inherits that record but not the locks: its connections would find a lock
taken for ever, or believe in a lock that does not exist, and another process could remove the log that the child writes
into. The record is cleared when the last connection to the file closes. So a fork waits until no thread uses a
connection, and closes all connections; parent and child open new ones when they need them. A child of a process in
which a connection was in use nevertheless is refused the file.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import SqliteTransaction, TableNames
from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit
from desist.runtime.fork_hooks import register_at_fork

__all__ = ["Connection", "ConnectionPool", "ForkGate", "fork_gate"]

#: Milliseconds that SQLite itself waits for another process; the caller tries again.
BUSY_MS = 200
#: The maximum of idle connections for readers.
POOL = 4
#: Seconds for which a fork waits for threads that use a connection.
FORK_TIMEOUT = 2.0

#: Connections of a parent process that could not be closed, kept so that they are never closed in its forked child:
#: closing one would end the locks that the child has on that file.
_inherited: list[Any] = []


class Connection(sqlite3.Connection):
    """A connection with its tables, which knows whether it was closed, and which other files it has opened."""

    closed = False
    tables: SqlTables | None = None  #: made once, because a transaction of SQLite has no state of its own
    full_sync = False  #: whether a commit waits for the disk
    side_files: tuple[Any, ...] | None = None  #: the identities of `-wal` and `-shm`; None: not opened yet

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self.closed, self.tables = True, None
        super().close()


class ForkGate:
    """Keeps forks apart from the use of connections. One for the process, because a fork concerns all files.

    Each use of a connection, its opening and its closing included, happens within `use`. Uses don't exclude each other.
    The lock is held for moments only, and is reentrant: the garbage collector may close a connection in a thread that
    holds the lock.
    """

    def __init__(self) -> None:
        self._pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
        self._refused: set[Path] = set()  #: files whose connections were in use when this process was forked
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._uses: dict[_Use, int] = {}  #: the thread of each use
        self._forking: list[int] = []  #: the threads that fork

    def add(self, pool: ConnectionPool) -> None:
        """Close the connections of a pool before each fork from now on."""
        with self._lock:
            self._pools.add(pool)

    @property
    def pools(self) -> list[ConnectionPool]:
        """All pools of the process."""
        with self._lock:
            return list(self._pools)

    def use(self, path: Path) -> _Use:
        """Use a connection to a file in a `with` block, which waits for a fork that has begun.

        It does not wait if this thread has another use, for which that fork waits, nor in the thread that forks.

        Raises:
            StoreError: this process is a child that can't use the file.
        """
        return _Use(self, path)

    def begin(self, use: _Use) -> None:
        """Begin a use, in this thread."""
        me = threading.get_ident()
        with self._lock:
            if self._forking:
                self._changed.wait_for(lambda: self._may_begin(me))
            if self._refused and use.path in self._refused:
                raise StoreError(
                    f"{use.path}: this process was forked while its parent used the database: use the start method"
                    " 'spawn', or fork before the database is opened"
                )
            self._uses[use] = me

    def _may_begin(self, me: int) -> bool:
        return all(one == me for one in self._forking) or me in self._uses.values()

    def end(self, use: _Use) -> None:
        """End a use. In a child that was forked within the use, there is none."""
        with self._lock:
            self._uses.pop(use, None)
            if self._forking:
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Let no use begin, wait for the uses of other threads, and close the connections. In the thread that forks."""
        me = threading.get_ident()
        with self._lock:
            self._forking.append(me)
            self._changed.wait_for(lambda: all(one == me for one in self._uses.values()), FORK_TIMEOUT)
            used = {use.path for use in self._uses}
            for pool in self._pools:
                if pool.path not in used:
                    pool.close_all()

    def after_fork_in_parent(self) -> None:
        """Let uses begin again. In the thread that has forked, also if the fork failed."""
        with self._lock:
            with suppress(ValueError):  # `before_fork` was interrupted
                self._forking.remove(threading.get_ident())
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections; refuse files with an open one. In the only thread of the child."""
        self._refused.update(use.path for use in self._uses)
        self._reset()
        self._refused.update(pool.path for pool in self.pools if not pool.reset_after_fork())


class _Use:
    """A use of a connection. A class and not a generator, because it is entered for each transaction and each read."""

    __slots__ = ("_gate", "path")

    def __init__(self, gate: ForkGate, path: Path) -> None:
        self._gate, self.path = gate, path

    def __enter__(self) -> None:
        self._gate.begin(self)

    def __exit__(self, *error: object) -> None:
        self._gate.end(self)


#: The gate of this process.
fork_gate = ForkGate()
register_at_fork(
    before=fork_gate.before_fork,
    after_in_parent=fork_gate.after_fork_in_parent,
    after_in_child=fork_gate.after_fork_in_child,
)


class ConnectionPool:
    """The connections of this process to one file. All methods but `close_all` are called within `fork_gate.use`."""

    def __init__(self, path: Path, names: TableNames) -> None:
        self.path, self._names = path, names
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False
        fork_gate.add(self)

    def open(self, timeout: float = BUSY_MS / 1000) -> Connection:
        """Return a new connection. Any thread may use the connection, one at a time."""
        connection = sqlite3.connect(
            self.path,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            factory=Connection,
        )
        self._open.add(connection)
        connection.tables = SqlTables(SqliteTransaction(connection, self._names))
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def borrow(self, timeout: float) -> Connection:
        """Return a connection for reading.

        Parameters:
            timeout: seconds to wait for another process. A reader waits only for a recovery after a crash.

        Raises:
            StoreError: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed")
            if self._idle:
                return self._idle.pop()
        return self.open(timeout)

    def give_back(self, connection: Connection) -> None:
        """Keep a borrowed connection for the next reader, or close it."""
        with self._lock:
            if not self._closed and len(self._idle) < POOL:
                self._idle.append(connection)
                return
        connection.close()

    def close_idle(self, *, finally_: bool = False) -> None:
        """Close the connections that no reader uses; with `finally_`, keep none from now on."""
        with self._lock:
            self._closed = self._closed or finally_
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close_all(self) -> None:
        """Close every connection, that of the writer, too. While no thread uses one."""
        self._idle.clear()
        for connection in list(self._open):
            with suppress(sqlite3.Error):
                connection.close()

    def reset_after_fork(self) -> bool:
        """Forget all connections, in a forked child; return whether the parent had closed them."""
        still_open = [one for one in self._open if not one.closed]
        _inherited.extend(still_open)
        self._lock = threading.Lock()
        self._idle, self._open = [], weakref.WeakSet()
        return not still_open


def _close_idle() -> None:
    """Close the connections for readers when the interpreter ends; the writers close theirs."""
    for pool in fork_gate.pools:
        with suppress(StoreError), fork_gate.use(pool.path):
            pool.close_idle()


register_at_exit(_close_idle)
