"""`Listener`: receives notifications of the server, in a thread, over one connection for each process and database.

A notification says only that there is something to read, as a datagram does (`desist.db.process.notifier`). It is part
of the transaction that wrote it, so it arrives when that can be read. A connection that breaks is made again;
meanwhile, and behind a pooler that lends connections for one transaction, this process polls more often.

Threads: `_run` is the listener's thread, the only one that uses the connection. `surrender` is called by the writer's
thread; `_given` passes the connection from one to the other.
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

#: Seconds between two attempts to connect, at first and at most.
FIRST, SLOWEST = 0.05, 2.0
#: Seconds within which a notification through a pooler must arrive.
PROOF = 2.0
#: The consequence of missing notifications, for messages.
UNNOTIFIED = "this process is not notified of cancels, and polls 20 times a second, until it is"


class Listener:
    """The thread, its connection, and the address of this process."""

    def __init__(self, target: PostgresTarget) -> None:
        self._target = target
        self.address = f"desist_{os.urandom(10).hex()}"  #: "" if notifications don't arrive
        self.hears = False  #: whether notifications arrive now
        self.users = 0
        self._ending = self._is_wanted = False
        self._given: deque[psycopg.Connection[Any]] = deque()  #: given up and not taken yet; one at most
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="desist-listen", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import psycopg

        pause, down = FIRST, False
        while not self._ending and self.address:
            connection = None
            try:
                for writer in writers_of(self._target):  # first: storing runs comes before notifications
                    writer.ensure()
                connection = self._taken() or self._target.connect()
                connection.execute(f'LISTEN "{self.address}"'.encode(), prepare=False)
                if self._target.is_pooled and not self._verify_notifications(connection):
                    return
                self.hears, pause = True, FIRST
                if down:
                    log.warning("%s is back: this process is notified again", self._target.name)
                down = False
                channel.notify_self()  # notifications before the LISTEN are lost: poll once
                if self._receive(connection):
                    connection.execute(b"UNLISTEN *", prepare=False)
                    self._given.append(connection)
                    connection = None
                    log.warning("%s has no connection left: %s", self._target.name, UNNOTIFIED)
                    down, pause = True, SLOWEST
            except psycopg.Error as error:
                if not down and not self._ending:
                    log.warning("%s; %s", self._target.format_error(error), UNNOTIFIED)
                down = True
            finally:
                self.hears = False
                if connection is not None:
                    connection.close()
            self._wait(None, pause)
            pause = min(2 * pause, SLOWEST)

    def _receive(self, connection: psycopg.Connection[Any]) -> bool:
        """Receive notifications until the end; return whether a writer wants the connection."""
        while not self._ending:
            self._wait(connection.fileno(), None)
            if self._called(connection):
                channel.notify_self()
            if self._is_wanted:
                self._is_wanted = False
                return True
        return False

    def surrender(self, target: PostgresTarget) -> psycopg.Connection[Any] | None:
        """Return the connection, for a writer that can't get one. The first call asks the thread for it; a later one
        gets it.

        Parameters:
            target: the writer's database. If its settings differ, the connection is closed, which makes room.
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
        """Return the connection that was given up, to the first of several threads that call this."""
        try:
            return self._given.popleft()
        except IndexError:
            return None

    def _wake(self) -> None:
        try:
            os.write(self._pipe[1], b"x")
        except BlockingIOError:  # the pipe is full: the thread wakes anyway
            pass

    def _called(self, connection: psycopg.Connection[Any]) -> bool:
        """Read what has arrived; return whether there was a notification. Many count as one."""
        connection.pgconn.consume_input()
        called = False
        while connection.pgconn.notifies() is not None:
            called = True
        return called

    def _wait(self, socket: int | None, timeout: float | None) -> None:
        """Wait for the socket, for `_wake`, or for so many seconds."""
        bell = select.poll()
        bell.register(self._pipe[0], select.POLLIN)
        if socket is not None:
            bell.register(socket, select.POLLIN)
        bell.poll(None if timeout is None else timeout * 1000)
        while not self._ending:  # empty the pipe, but not at the end: every later wait must return at once
            try:
                os.read(self._pipe[0], 64)
            except BlockingIOError:
                break

    def _verify_notifications(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether notifications pass a pooler: in session mode they do, in transaction mode they don't."""
        self._call_itself()
        until = time.monotonic() + PROOF
        while not self._ending and (left := until - time.monotonic()) > 0:
            self._wait(connection.fileno(), left)
            if self._called(connection):
                return True
        self.address = ""
        if not self._ending:
            log.warning(
                "%s is behind a pooler that lends connections for one transaction (PgBouncer?): notifications don't"
                " pass it, so this process polls for cancels 20 times a second",
                self._target.name,
            )
        return False

    def _call_itself(self) -> None:
        """Notify this process over another connection: the writer's, so that no further one is needed."""
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
#: Listeners of a parent process, kept so that their connections are never closed in its forked child.
_inherited: list[Any] = []


def acquire_listener(target: PostgresTarget) -> Listener:
    """Return the listener of a database, for one more user."""
    with _lock:
        listener = _listeners.get(target.key)
        if listener is None:
            listener = _listeners[target.key] = Listener(target)
        listener.users += 1
        return listener


def leave(listener: Listener) -> None:
    """Remove a user of a listener; the last one closes it."""
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
