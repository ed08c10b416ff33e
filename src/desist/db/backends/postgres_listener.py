"""Hearing the server call: one connection a process and database that listens, in a thread, for all tables there.

A call says nothing but "look", as a datagram does (`desist.db.process.notifier`). It is part of the transaction that
has something to be seen, so it comes when that can be seen. A connection that breaks is made anew; meanwhile, and
behind a pooler that lends connections for one transaction only, this process looks by itself, more often.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from desist.db.backends.postgres_writer_connection import writers_of
from desist.db.process.notifier import channel
from desist.db.process.postgres_target import PostgresTarget
from desist.runtime.background_loop import register_at_exit
from desist.runtime.fork_hooks import register_at_fork

if TYPE_CHECKING:
    import psycopg

__all__ = ["Listener", "acquire_listener", "leave"]

log = logging.getLogger("desist.db")

#: Seconds between two tries to connect, at first and at most.
FIRST, SLOWEST = 0.05, 2.0
#: Seconds in which a call through a pooler must be heard.
PROOF = 2.0
#: What follows where calls aren't heard.
DEAF = "this process isn't called by others, and looks for cancels by itself, 20 times a second, until it is"


class Listener:
    """The thread, its connection, and the name by which this process is called."""

    def __init__(self, target: PostgresTarget) -> None:
        self._target = target
        self.address = f"desist_{os.urandom(10).hex()}"  #: "" if calls don't come through
        self.hears = False  #: now
        self.users = 0
        self._ending = self._is_wanted = False
        self._given: deque[psycopg.Connection[Any]] = deque()  #: given up, and not taken yet: one at most
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="desist-listen", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import psycopg

        pause, down = FIRST, False
        while not self._ending and self.address:
            connection = None
            try:
                for writer in writers_of(self._target):  # first: what runs do must be stored
                    writer.ensure()
                connection = self._taken() or self._target.connect()
                connection.execute(f'LISTEN "{self.address}"'.encode(), prepare=False)
                if self._target.is_pooled and not self._verify_notifications(connection):
                    return
                self.hears, pause = True, FIRST
                if down:
                    log.warning("%s is back: this process is called again", self._target.name)
                down = False
                channel.notify_self()  # what came before it could hear
                if self._receive(connection):
                    connection.execute(b"UNLISTEN *", prepare=False)
                    self._given.append(connection)
                    connection = None
                    log.warning("%s has no connection left: %s", self._target.name, DEAF)
                    down, pause = True, SLOWEST
            except psycopg.Error as error:
                if not down and not self._ending:
                    log.warning("%s; %s", self._target.format_error(error), DEAF)
                down = True
            finally:
                self.hears = False
                if connection is not None:
                    connection.close()
            self._wait(None, pause)
            pause = min(2 * pause, SLOWEST)

    def _receive(self, connection: psycopg.Connection[Any]) -> bool:
        """Hear calls, until the end; return whether the connection is wanted for something else."""
        while not self._ending:
            self._wait(connection.fileno(), None)
            if self._called(connection):
                channel.notify_self()
            if self._is_wanted:
                self._is_wanted = False
                return True
        return False

    def surrender(self, target: PostgresTarget) -> psycopg.Connection[Any] | None:
        """Give the connection up to a writer that gets none. The first call asks the thread to; a later one has it.

        Parameters:
            target: the writer's. If its settings are others, the connection is closed, which makes room.
        """
        given = self._taken()
        if given is not None and self._target.settings != target.settings:
            given.close()
            return None
        if given is None and self.hears:
            self._is_wanted = True
            self._wake()
        return given

    def _taken(self) -> psycopg.Connection[Any] | None:
        """Return the connection that was given up, to the one of several threads that asks first."""
        try:
            return self._given.popleft()
        except IndexError:
            return None

    def _wake(self) -> None:
        try:
            os.write(self._pipe[1], b"x")
        except BlockingIOError:  # it is full: the thread wakes
            pass

    def _called(self, connection: psycopg.Connection[Any]) -> bool:
        """Take in what has come; return whether that was a call. Many count as one."""
        connection.pgconn.consume_input()
        called = False
        while connection.pgconn.notifies() is not None:
            called = True
        return called

    def _wait(self, socket: int | None, timeout: float | None) -> None:
        """Wait for the socket, the end, or so many seconds."""
        bell = select.poll()
        bell.register(self._pipe[0], select.POLLIN)
        if socket is not None:
            bell.register(socket, select.POLLIN)
        bell.poll(None if timeout is None else timeout * 1000)
        while not self._ending:  # what woke it; at the end it stays awake
            try:
                os.read(self._pipe[0], 64)
            except BlockingIOError:
                break

    def _verify_notifications(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether a call comes through a pooler: one for sessions lets it, one for transactions doesn't."""
        self._call_itself()
        until = time.monotonic() + PROOF
        while not self._ending and (left := until - time.monotonic()) > 0:
            self._wait(connection.fileno(), left)
            if self._called(connection):
                return True
        self.address = ""
        if not self._ending:
            log.warning(
                "%s is behind a pooler that lends connections for one transaction (PgBouncer?): nobody can be called"
                " there, so this process looks for cancels by itself, 20 times a second",
                self._target.name,
            )
        return False

    def _call_itself(self) -> None:
        """Call over another connection: the writer's, so that no further one is needed."""
        for writer in writers_of(self._target):
            other = writer.borrow(PROOF)
            if other is not None:
                try:
                    other.execute("SELECT pg_notify(%s, '')", (self.address,), prepare=False)
                finally:
                    writer.release()
                return
        with self._target.connect() as other:
            other.execute("SELECT pg_notify(%s, '')", (self.address,))

    def close(self) -> None:
        """End the thread and its connection."""
        self._ending = True
        self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join(2.0)
        if not self._thread.is_alive():
            for end in self._pipe:
                os.close(end)
            if (given := self._taken()) is not None:
                given.close()


_lock = threading.Lock()
_listeners: dict[Hashable, Listener] = {}
#: Those of a parent process, kept so that their connections are never closed in its forked child.
_inherited: list[Any] = []


def acquire_listener(target: PostgresTarget) -> Listener:
    """Return the listener of a database, for one more that uses it."""
    with _lock:
        listener = _listeners.get(target.key)
        if listener is None:
            listener = _listeners[target.key] = Listener(target)
        listener.users += 1
        return listener


def leave(listener: Listener) -> None:
    """One uses it less; the last one ends it."""
    with _lock:
        listener.users -= 1
        if listener.users > 0 or _listeners.get(listener._target.key) is not listener:
            return
        del _listeners[listener._target.key]
    listener.close()


def _end() -> None:
    with _lock:
        known = list(_listeners.values())
        _listeners.clear()
    for listener in known:
        listener.close()


def _reset_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_listeners.values())
    _listeners.clear()


register_at_exit(_end)
register_at_fork(after_in_child=_reset_after_fork)
