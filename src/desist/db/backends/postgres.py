"""A set of tables in a Postgres database as storage: transactions, reads, and what an error means for the writer.

One connection writes, in the writer's thread. Reads borrow connections from a small pool, or, if the server has no room
for those, the writer's connection between two transactions (`postgres_writer_connection`). A transaction that decides
about a run has a job of its own (`apart`), so its locks are few and short. Its worst moment is a process that freezes
in it: the server ends such a transaction after `FROZEN` seconds, and the processes that wait for its locks go on.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from desist.db.backends.base import ChangeDetector
from desist.db.backends.postgres_capacity import warn_if_full
from desist.db.backends.postgres_listener import Listener, acquire_listener, leave
from desist.db.backends.postgres_read_pool import ReadPool
from desist.db.backends.postgres_schema import Schema
from desist.db.backends.postgres_writer_connection import WriterConnection, writers_of
from desist.db.migrations.report import SchemaReport
from desist.db.process.postgres_target import PostgresTarget, is_full, is_transient, without_password
from desist.db.tables.postgres import FROZEN, PostgresTransaction, locking
from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import TableNames
from desist.db.writer import BackendBusy, WriteJob, names_to_lock, perform
from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit
from desist.runtime.fork_hooks import register_at_fork

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresBackend"]

log = logging.getLogger("desist.db")

#: Seconds for which a statement waits for a lock: longer than a frozen process can hold one.
LOCKED = 5.0
#: The maximum of seconds for one read.
READ = 30.0
#: Seconds between two attempts to reach a server that is away, at first and at most.
FIRST, SLOWEST = 0.05, 1.0
#: Seconds between two attempts to connect to a server that has no connection left.
FULL = 0.5
#: The minimum of seconds for which a read waits for its turn with the writer's connection.
TURN = 1.0
#: Seconds between two polls by a process that is notified, and by one that can't be.
NOTIFIED, UNNOTIFIED = 0.25, 0.05

#: Connections of a parent process, kept so that they are never closed in its forked child.
_inherited: list[Any] = []


class _Changes:
    """Others may have written at any time."""

    every = 0.04
    cheap = False

    def seen(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing."""


class PostgresBackend:
    """Tables in a database, and the connections to it.

    Raises:
        StoreError: the tables can't be used; the message names the database and the reason.
    """

    apart = True

    def __init__(self, target: PostgresTarget, schema: str | None, names: TableNames, timeout: float) -> None:
        self.target, self.names, self.name = target, names, target.name
        self._timeout = timeout
        self._doubt: _UnknownOutcome | None = None
        self._away_until, self._pause = 0.0, FIRST
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._closed = False
        self.schema = Schema(target, schema, names)
        # Both refer to this object weakly: a cycle of garbage is finalized in any order, and this object, which closes
        # the connections, must be the first.
        self._writer = WriterConnection(target, functools.partial(_spare, weakref.ref(self)))
        self._readers = ReadPool(functools.partial(_connect_after_writers, target), self.name)
        self._full_until = 0.0
        connection = self.schema.prepare(timeout)
        self._writer.keep(connection)
        warn_if_full(target, connection)
        path = self.schema.path
        limits = (
            f"SET LOCAL statement_timeout = {_ms(READ)}; SET LOCAL idle_in_transaction_session_timeout = {_ms(READ)}"
        )
        self._begin_reading = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {limits}{path}".encode()
        limits = (
            f"SET LOCAL lock_timeout = {_ms(LOCKED)}; SET LOCAL idle_in_transaction_session_timeout = {_ms(FROZEN)}"
        )
        self._begin = f"BEGIN; {limits}{path}"
        _backends.add(self)

    # -- writing

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs in one transaction. The transaction is on the disk when this returns.

        Always, because what other processes have seen of a run, for example a finished step, must not be lost in a
        crash of the server that the owner of the run survives.

        If the connection breaks at the commit, it is unknown whether the transaction was committed. The next call asks
        the server before it does anything twice.
        """
        import psycopg

        if time.monotonic() < self._away_until:
            raise BackendBusy("the server is away")
        try:
            connection = self._writer.acquire()
        except psycopg.Error as error:  # fail at once for a moment, instead of connecting again
            self._away_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, FULL if is_full(error) else SLOWEST)
            raise self._failure(error) from error
        try:
            known = self._known(connection, jobs)
            if known is not None:
                return known
            return self._transaction(connection, jobs)
        except psycopg.Error as error:
            raise self._failure(error) from error
        finally:
            self._writer.release()

    def _failure(self, error: psycopg.Error) -> Exception:
        """Return the error for the writer: `BackendBusy` if trying again may help."""
        if is_full(error):
            return BackendBusy(self.target.format_error(error))
        return (
            BackendBusy(without_password(error)) if is_transient(error) else StoreError(self.target.format_error(error))
        )

    def _transaction(self, connection: psycopg.Connection[Any], jobs: Sequence[WriteJob]) -> list[Any]:
        try:
            number = self._started(connection, names_to_lock(jobs))
            self._away_until, self._pause = 0.0, FIRST
            tx = PostgresTransaction(connection, self.names, writing=True)
            tables = SqlTables(tx)
            results = perform(jobs, tables)
            self._doubt = _UnknownOutcome(number, jobs, results)
            connection.execute(tx.end.encode(), prepare=False)
            self._doubt = None
            return results
        except BaseException:
            if not connection.closed and connection.info.transaction_status != 0:
                connection.execute(b"ROLLBACK", prepare=False)
                self._doubt = None
            raise

    def _started(self, connection: psycopg.Connection[Any], names: Sequence[str]) -> int:
        """Begin a transaction and lock names, with one message; return the number of the transaction."""
        message = f"{self._begin}; {locking(names, connection)}SELECT txid_current()"
        cursor = connection.execute(message.encode(), prepare=False)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])

    def _known(self, connection: psycopg.Connection[Any], jobs: Sequence[WriteJob]) -> list[Any] | None:
        """Return the results of jobs whose outcome was unknown and that are committed; None if they must be done."""
        import psycopg

        doubt = self._doubt
        if doubt is None or not all(any(job is one for one in doubt.jobs) for job in jobs):
            return None
        try:
            row = connection.execute("SELECT txid_status(%s)", (doubt.number,)).fetchone()
        except psycopg.errors.InvalidParameterValue:  # the server has crashed, and does not know the number
            row = None
        status = row[0] if row is not None else None
        if status == "in progress":
            raise BackendBusy("the server has not noticed yet that a connection broke")
        if status != "committed":
            self._doubt = None
            return None
        return [doubt.result_of(job) for job in jobs]

    def detach(self) -> Callable[[], None]:
        """Keep the connection: another client could take the room that it leaves."""
        return lambda: None

    def spare(self) -> psycopg.Connection[Any] | None:
        """Give up another connection for the writer, which can't get one from the server."""
        listener = self._listener
        return self._readers.surrender() or (listener.surrender(self.target) if listener is not None else None)

    # -- reading

    def reading(self) -> Any:
        """Return the tables for one read, which sees one snapshot. Waits for a server that is away."""
        return self._reading(self._timeout)

    def reading_shared(self) -> Any:
        """Return the tables for a read that is repeated soon: without waiting."""
        return self._reading(0.0)

    @contextmanager
    def _reading(self, timeout: float) -> Iterator[SqlTables]:
        import psycopg

        connection = self._begin_read(timeout)
        try:
            yield SqlTables(PostgresTransaction(connection, self.names, writing=False))
        except psycopg.Error as error:
            raise StoreError(self.target.format_error(error)) from error
        finally:
            _end_read(connection)
            self._give_back(connection)

    def _borrow(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a connection for reading: from the pool, or the writer's while the server has no room for another one.

        Raises:
            StoreError, psycopg.Error: there is none.
        """
        import psycopg

        full: psycopg.Error | None = None
        if time.monotonic() >= self._full_until or self._readers.has_idle:
            try:
                return self._readers.borrow(timeout)
            except psycopg.Error as error:
                if not is_full(error):
                    raise
                full, self._full_until = error, time.monotonic() + FULL
        connection = self._writer.borrow(max(timeout, TURN))
        if connection is None:
            raise full or StoreError(
                f"{self.name}: the server has no connection left for reading, and the writer's is in use"
            )
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        if self._writer.owns(connection):
            self._writer.release()
        else:
            self._readers.give_back(connection)

    def _begin_read(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a connection in a read transaction. A connection from the pool may have been broken for long."""
        import psycopg

        until = time.monotonic() + timeout
        pause, again = FIRST, True
        while True:
            connection = None
            try:
                connection = self._borrow(max(0.0, until - time.monotonic()))
                connection.execute(self._begin_reading, prepare=False)
                return connection
            except psycopg.Error as error:
                if connection is not None:
                    self._give_back(connection)
                    self._readers.drop_idle()
                    if again:  # at once, with a new connection
                        again = False
                        continue
                if not is_transient(error) or time.monotonic() + pause > until:
                    raise StoreError(self.target.format_error(error)) from error
            except BaseException:
                if connection is not None:
                    self._give_back(connection)
                raise
            time.sleep(pause)
            pause = min(2 * pause, SLOWEST)

    def changes(self) -> ChangeDetector:
        """Return a detector that always reports changes: Postgres has no cheap test, so followers read."""
        return _Changes()

    # -- the schema

    def report(self) -> SchemaReport:
        """Check the tables."""
        connection = self._borrow(self._timeout)
        try:
            return self.schema.report(connection)
        finally:
            self._give_back(connection)

    def upgrade(self) -> SchemaReport:
        """Bring the tables to the version that this desist needs, and check them."""
        self.schema.prepare(self._timeout).close()
        return self.report()

    # -- notifications

    @property
    def poll_interval(self) -> float:
        """Seconds between two polls: longer if this process is notified."""
        return NOTIFIED if self._listener is not None and self._listener.hears else UNNOTIFIED

    @property
    def address(self) -> str:
        """The address by which others notify this process; "" if they can't."""
        return self._listener.address if self._listener is not None else ""

    def listen(self) -> None:
        """Begin to receive notifications. Idempotent; does not wait."""
        if self._listener is None:
            with self._lock:
                if self._listener is None and not self._closed:
                    self._listener = acquire_listener(self.target)

    @property
    def pushes(self) -> bool:
        """Whether this process is notified of what others write."""
        return self._listener is not None and self._listener.hears

    def wake(self, address: str) -> bool:
        """Do nothing: the transaction has notified the process. Return True."""
        return True

    # -- the end

    def close(self) -> None:
        """Close all connections; the writer's connection once its thread has released it."""
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
        if listener is not None:
            leave(listener)
        self._readers.close()
        self._writer.close()

    def __del__(self) -> None:
        if hasattr(self, "_readers"):
            self.close()

    def reset_after_fork(self) -> None:
        """Forget the parent's connections, in a forked child."""
        _inherited.extend([self._writer.reset_after_fork(), *self._readers.detach_after_fork()])
        self._lock = threading.Lock()
        self._doubt = self._listener = None
        self._away_until = self._full_until = 0.0


def _end_read(connection: psycopg.Connection[Any]) -> None:
    """End a read transaction. What was read is valid even if the connection breaks now."""
    import psycopg

    try:
        if not connection.closed and connection.info.transaction_status in (2, 3):  # in a transaction, maybe failed
            connection.execute(b"ROLLBACK", prepare=False)
    except psycopg.Error as error:
        log.debug("a connection broke at the end of a read: %s", error)


def _spare(backend: weakref.ref[PostgresBackend]) -> psycopg.Connection[Any] | None:
    known = backend()
    return known.spare() if known is not None else None


def _connect_after_writers(target: PostgresTarget) -> psycopg.Connection[Any]:
    """Return a connection for reading. All writers of this process get their connections first."""
    for writer in writers_of(target):
        writer.ensure()
    return target.connect()


class _UnknownOutcome:
    """A transaction that was sent its commit and has not answered."""

    def __init__(self, number: int, jobs: Sequence[WriteJob], results: list[Any]) -> None:
        self.number, self.jobs, self._results = number, jobs, results

    def result_of(self, job: WriteJob) -> Any:
        return next(result for known, result in zip(self.jobs, self._results, strict=True) if known is job)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


_backends: weakref.WeakSet[PostgresBackend] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for backend in list(_backends):
        backend.reset_after_fork()


def _close_all() -> None:
    for backend in list(_backends):
        backend.close()


register_at_exit(_close_all)  # after the writers' threads, which are ended when the interpreter ends, too
register_at_fork(after_in_child=_reset_after_fork)
