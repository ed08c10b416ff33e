"""How the thread of a worker is woken: by other processes, by other threads, and after a connection was lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from desist.db.process.postgres_target import PostgresTarget
from desist.engine.liveness_lock import LivenessLock
from desist.engine.wakeup import DatagramWakeup, NotifyWakeup, Wakeup

LONG = 60.0


def wakeups(kind: str, new_postgres: Callable[[], str]) -> tuple[Wakeup, Callable[[], None]]:
    """Return a wakeup, and what notifies it as another process does."""
    if kind == "datagram":
        one = DatagramWakeup()
        one.open()

        def send() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.sendto(b"look", bytes.fromhex(one.address))

        return one, send
    url = new_postgres()
    two = NotifyWakeup(LivenessLock(PostgresTarget(url)), "ours")
    two.open()

    def notify() -> None:
        with PostgresTarget(url).connect() as connection:
            connection.execute(f'NOTIFY "{two.address}"'.encode())

    return two, notify


@pytest.mark.parametrize("kind", ["datagram", "notify"])
def test_woken(kind: str, new_postgres: Callable[[], str]) -> None:
    """A notification ends the wait, or the next one, and is told from a wake of this process; both count once."""
    one, notify = wakeups(kind, new_postgres)
    notify()
    notify()
    assert one.wait(LONG)
    one.wait(0.0)
    assert not one.wait(0.0)
    one.wake()
    one.wake()
    assert not one.wait(LONG), "it was woken, and not by another process"
    thread = threading.Thread(target=notify)
    thread.start()
    assert one.wait(LONG)
    thread.join(30)
    one.close()


def test_notified_while_it_checks_others(new_postgres: Callable[[], str]) -> None:
    """A notification that arrives with the answer to another statement on the connection is not lost."""
    url = new_postgres()
    lock = LivenessLock(PostgresTarget(url))
    one = NotifyWakeup(lock, "ours")
    one.open()
    with PostgresTarget(url).connect() as connection:
        connection.execute(f'NOTIFY "{one.address}"'.encode())
    one.open()  # the heartbeat's statement
    assert not lock.is_released("theirs")
    assert one.wait(LONG)
    one.close()


def test_a_lost_connection_counts_as_a_notification(new_postgres: Callable[[], str]) -> None:
    """Something may have been missed: the worker looks, and listens again on a new connection."""
    url = new_postgres()
    one = NotifyWakeup(LivenessLock(PostgresTarget(url)), "ours")
    one.open()
    with PostgresTarget(url).connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    assert one.wait(LONG)
    while True:
        try:
            one.open()
            break
        except Exception as error:
            assert "liveness lock" in str(error)
    with PostgresTarget(url).connect() as connection:
        connection.execute(f'NOTIFY "{one.address}"'.encode())
    assert one.wait(LONG)
    one.close()
