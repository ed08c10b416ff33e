"""One set of tables in a Postgres, as a place: its connections, its transactions, what its errors mean for a writer.

One connection writes, in the writer's thread; looks borrow one from a few, or, where the server has no room for those,
the writer's between two transactions (`postgres_writer_connection`). A transaction that decides about a run has a
job of its own (`apart`), so that it is short and its locks are few. Its worst moment is a process that freezes within
it: the server ends such a transaction after `FROZEN`, and whoever waits for its locks goes on.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from desist.db.backends.base import ChangeDetector
from desist.db.backends.postgres_capacity import say_room
from desist.db.backends.postgres_listener import Listener, acquire_listener, leave
from desist.db.backends.postgres_read_pool import ReadPool
from desist.db.backends.postgres_schema import Schema
from desist.db.backends.postgres_writer_connection import WriterConnection, writers_of
from desist.db.migrations.report import SchemaReport
from desist.db.process.postgres_target import PostgresTarget, is_full, is_transient, without_password
from desist.db.tables.postgres import FROZEN, PostgresTransaction
from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import TableNames
from desist.db.writer import BackendBusy, WriteJob
from desist.exceptions import StoreError
from desist.runtime.background_loop import register_at_exit

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresBackend"]

log = logging.getLogger("desist.db")

#: Seconds that a statement may wait for a lock: longer than a frozen process can hold one.
LOCKED = 5.0
#: Seconds that a look may take, and seconds between two tries to reach a server that is away, at first and at most.
LOOK, FIRST, SLOWEST = 30.0, 0.05, 1.0
#: Seconds between two tries for a connection where there are too many, and seconds that a look waits at least for its
#: turn with the writer's.
FULL, TURN = 0.5, 1.0
#: Seconds between two looks that nobody asked for: where calls come through, and where not.
CALLED, DEAF = 0.25, 0.05

#: Connections of a parent process, kept so that they are never closed in its forked child.
_inherited: list[Any] = []


class _Changes:
    """Others may always have written."""

    every = 0.04

    def seen(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class PostgresBackend:
    """Tables in a database, and the connections to them.

    Raises:
        StoreError: they can't be used; the message names the database and says why.
    """

    apart = True

    def __init__(self, target: PostgresTarget, schema: str | None, names: TableNames, timeout: float) -> None:
        self.target, self.names, self.name = target, names, target.name
        self._patience = timeout
        self._doubt: _UnknownOutcome | None = None
        self._away_until, self._pause = 0.0, FIRST
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._closed = False
        self.schema = Schema(target, schema, names)
        # Neither knows this object, but weakly: garbage in a cycle is finalized in any order, and this object must be
        # first, which closes the connections.
        self._writer = WriterConnection(target, functools.partial(_spare, weakref.ref(self)))
        self._readers = ReadPool(functools.partial(_connect_after_writers, target), self.name)
        self._full_until = 0.0
        connection = self.schema.prepare(timeout)
        self._writer.keep(connection)
        say_room(target, connection)
        path = self.schema.path
        limits = (
            f"SET LOCAL statement_timeout = {_ms(LOOK)}; SET LOCAL idle_in_transaction_session_timeout = {_ms(LOOK)}"
        )
        self._look = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {limits}{path}".encode()
        limits = (
            f"SET LOCAL lock_timeout = {_ms(LOCKED)}; SET LOCAL idle_in_transaction_session_timeout = {_ms(FROZEN)}"
        )
        self._begin = f"BEGIN; {limits}{path}"
        _places.add(self)

    # -- writing

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs in one transaction, on the disk before this returns.

        Always: what others have seen of a run, a finished step say, must not be gone after a crash of the server, which
        the process that works on it may survive.

        Whether it went through isn't known if the connection breaks at its end. Then the server is asked that, before
        anything is done twice.
        """
        import psycopg

        if time.monotonic() < self._away_until:
            raise BackendBusy("the server is away")
        try:
            connection = self._writer.acquire()
        except psycopg.Error as error:  # leave the server alone for a moment
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
        """Return what the writer is told: whether trying again may help."""
        if is_full(error):
            return BackendBusy(self.target.format_error(error))
        return (
            BackendBusy(without_password(error)) if is_transient(error) else StoreError(self.target.format_error(error))
        )

    def _transaction(self, connection: psycopg.Connection[Any], jobs: Sequence[WriteJob]) -> list[Any]:
        number = self._started(connection)
        self._away_until, self._pause = 0.0, FIRST
        try:
            tx = PostgresTransaction(connection, self.names, writing=True)
            tables = SqlTables(tx)
            results = [job.work(tables) for job in jobs]
            self._doubt = _UnknownOutcome(number, jobs, results)
            connection.execute(tx.end.encode(), prepare=False)
            self._doubt = None
            return results
        except BaseException:
            if not connection.closed and connection.info.transaction_status != 0:
                connection.execute(b"ROLLBACK", prepare=False)
                self._doubt = None
            raise

    def _started(self, connection: psycopg.Connection[Any]) -> int:
        """Begin a transaction, all in one message; return its number."""
        cursor = connection.execute(f"{self._begin}; SELECT txid_current()".encode(), prepare=False)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])

    def _known(self, connection: psycopg.Connection[Any], jobs: Sequence[WriteJob]) -> list[Any] | None:
        """Return the results of jobs that were in doubt, and are done; None if they are to be done."""
        import psycopg

        doubt = self._doubt
        if doubt is None or not all(any(job is one for one in doubt.jobs) for job in jobs):
            return None
        try:
            row = connection.execute("SELECT txid_status(%s)", (doubt.number,)).fetchone()
        except psycopg.errors.InvalidParameterValue:  # the server has crashed, and knows of no such number
            row = None
        status = row[0] if row is not None else None
        if status == "in progress":
            raise BackendBusy("the server hasn't noticed yet that a connection broke")
        if status != "committed":
            self._doubt = None
            return None
        return [doubt.result_of(job) for job in jobs]

    def detach(self) -> Callable[[], None]:
        """The writer's thread ends. The connection stays: another client could take the room that it leaves."""
        return lambda: None

    def spare(self) -> psycopg.Connection[Any] | None:
        """Give up a connection, to the writer, which gets none of the server."""
        listener = self._listener
        return self._readers.surrender() or (listener.surrender(self.target) if listener is not None else None)

    # -- reading

    def reading(self) -> Any:
        """Lend the tables for one look: all that it sees belongs together. Waits for a server that is away."""
        return self._reading(self._patience)

    def reading_shared(self) -> Any:
        """The same for a look that is made again soon: it doesn't wait."""
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

    def _borrow(self, patience: float) -> psycopg.Connection[Any]:
        """Return a connection for a look: one of the readers', or the writer's while the server has no room for those.

        Raises:
            StoreError, psycopg.Error: there is none.
        """
        import psycopg

        full: psycopg.Error | None = None
        if time.monotonic() >= self._full_until or self._readers.has_idle:
            try:
                return self._readers.borrow(patience)
            except psycopg.Error as error:
                if not is_full(error):
                    raise
                full, self._full_until = error, time.monotonic() + FULL
        connection = self._writer.borrow(max(patience, TURN))
        if connection is None:
            raise full or StoreError(
                f"{self.name}: there is no room for connections to read, and the writer's is in use"
            )
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        if self._writer.owns(connection):
            self._writer.release()
        else:
            self._readers.give_back(connection)

    def _begin_read(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a connection in a transaction for a look; a lent one may have been broken for long."""
        import psycopg

        until = time.monotonic() + timeout
        pause, again = FIRST, True
        while True:
            connection = None
            try:
                connection = self._borrow(max(0.0, until - time.monotonic()))
                connection.execute(self._look, prepare=False)
                return connection
            except psycopg.Error as error:
                if connection is not None:
                    self._give_back(connection)
                    self._readers.drop_idle()
                    if again:  # with a new one, at once
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
        """Return something to ask while somebody follows a run: there is no cheap sign, so each look is a real one."""
        return _Changes()

    # -- looking it over

    def report(self) -> SchemaReport:
        """Say at which step the tables stand, and what is wrong with them."""
        connection = self._borrow(self._patience)
        try:
            return self.schema.report(connection)
        finally:
            self._give_back(connection)

    def upgrade(self) -> SchemaReport:
        """Bring the tables to what this version needs, and look them over."""
        self.schema.prepare(self._patience).close()
        return self.report()

    # -- being called

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks that nobody asked for."""
        return CALLED if self._listener is not None and self._listener.hears else DEAF

    @property
    def address(self) -> str:
        """By which name this process is called."""
        return self._listener.address if self._listener is not None else ""

    def listen(self) -> None:
        """Begin to hear. Doesn't wait for that."""
        if self._listener is None:
            with self._lock:
                if self._listener is None and not self._closed:
                    self._listener = acquire_listener(self.target)

    def wake(self, address: str) -> None:
        """The transaction did."""

    # -- the end

    def close(self) -> None:
        """Close all connections; the writer's when its thread is through with it."""
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
        """Start anew in a forked child."""
        _inherited.extend([self._writer.reset_after_fork(), *self._readers.detach_after_fork()])
        self._lock = threading.Lock()
        self._doubt = self._listener = None
        self._away_until = self._full_until = 0.0


def _end_read(connection: psycopg.Connection[Any]) -> None:
    """End the transaction of a look. What was seen holds, though the connection break at that moment."""
    import psycopg

    try:
        if not connection.closed and connection.info.transaction_status in (2, 3):  # in it, also if it failed
            connection.execute(b"ROLLBACK", prepare=False)
    except psycopg.Error as error:
        log.debug("a look ended with its connection: %s", error)


def _spare(place: weakref.ref[PostgresBackend]) -> psycopg.Connection[Any] | None:
    known = place()
    return known.spare() if known is not None else None


def _connect_after_writers(target: PostgresTarget) -> psycopg.Connection[Any]:
    """Return a connection for looks; first, the writers of this process have theirs, those of other tables, too."""
    for writer in writers_of(target):
        writer.ensure()
    return target.connect()


class _UnknownOutcome:
    """A transaction of which it isn't known yet whether it went through."""

    def __init__(self, number: int, jobs: Sequence[WriteJob], results: list[Any]) -> None:
        self.number, self.jobs, self._results = number, jobs, results

    def result_of(self, job: WriteJob) -> Any:
        return next(result for known, result in zip(self.jobs, self._results, strict=True) if known is job)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


_places: weakref.WeakSet[PostgresBackend] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for place in list(_places):
        place.reset_after_fork()


def _close_all() -> None:
    for place in list(_places):
        place.close()


register_at_exit(_close_all)  # after the writers' threads, which are ended when the interpreter ends, too
os.register_at_fork(after_in_child=_reset_after_fork)
