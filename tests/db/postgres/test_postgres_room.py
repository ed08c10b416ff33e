"""A server without room for more connections: runs are stored all the same, looks give way, and it is said."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from database_worker import Worker
from postgres_databases import own_server
from postgres_pooler import Pooler

from desist import Workflow
from desist.cancel.scope import Outcome
from desist.db import PostgresDb
from desist.db.backends.postgres_capacity import free_connections
from desist.db.backends.postgres_writer_connection import is_alive
from desist.exceptions import StoreError
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import LocalPostgres

S = RunStatus
_numbers = itertools.count()


@pytest.fixture(scope="module")
def small() -> Iterator[LocalPostgres]:
    """A server for eight clients."""
    with own_server(max_connections=8, superuser_reserved_connections=0, max_wal_senders=0) as made:
        yield made


@pytest.fixture
def url(small: LocalPostgres) -> Iterator[str]:
    """An empty place for tables there. Whatever a test leaves connected is ended, so that the next one has room."""
    yield small.new_schema(f"room{next(_numbers)}")
    left = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename > '' AND pid <> pg_backend_pid()"
    while small.do(left):
        pass


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., PostgresDb]]:
    """Opens databases, and closes them."""
    made: list[PostgresDb] = []

    def open_db(at: str = url, **how: Any) -> PostgresDb:
        made.append(PostgresDb(at, **{"timeout": 20, **how}))
        return made[-1]

    yield open_db
    for db in made:
        db.close()


class Others:
    """Other clients, who take every connection there is, and all that become free."""

    def __init__(self, url: str) -> None:
        self._url, self.held = url, [psycopg.connect(url, autocommit=True)]

    def take_all(self) -> None:
        """Take what is left."""
        try:
            while True:
                self.held.append(psycopg.connect(self._url, autocommit=True))
        except psycopg.OperationalError as error:
            assert "too many" in str(error)

    def clients(self) -> int:
        """Return the number of connections that the server has. It ends one some time after its client."""
        count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        return int(self.held[0].execute(count).fetchall()[0][0])

    def take_from(self, db: PostgresDb) -> None:
        """End the connection that desist writes with, in the middle of a transaction, and take its place."""
        begun, go = threading.Event(), threading.Event()
        store: Any = db.store
        store.writer.put(lambda tables: (begun.set(), go.wait(30)))
        assert begun.wait(30)
        pid = of(db)._writer._connection.info.backend_pid
        self.held[0].execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))
        self.take_all()
        go.set()

    def close(self) -> None:
        """Leave."""
        for one in self.held:
            one.close()


@pytest.fixture
def others(url: str, opened: object) -> Iterator[Others]:
    made = Others(url)
    yield made
    made.close()


def of(db: PostgresDb) -> Any:
    """Return the place of a database."""
    return db.store.backend  # type: ignore[attr-defined]


def stored(db: PostgresDb, count: int = 20) -> int:
    """Run so many runs of a session; return how many are in the database, as another look sees it."""
    workflow = Workflow("W", steps=[lambda step_input: "x"], db=db)
    outputs = [workflow.run("go", run_id=f"r{number}", session_id="s") for number in range(count)]
    assert [output.store_error for output in outputs] == [None] * count
    return sum(run.status is S.completed for run in db.get_runs("s", "workflow"))


def heard(db: PostgresDb) -> None:
    """Wait until this process hears calls."""
    of(db).listen()
    while not of(db)._listener.hears:
        db.flush()


# -- others have all connections


def test_runs_are_stored_while_others_have_all(opened: Callable[..., PostgresDb], others: Others) -> None:
    """Twenty runs of twenty are stored and read, by a process that has got one connection."""
    db = opened()
    others.take_all()
    assert stored(db) == 20
    assert others.held[0].execute("SELECT count(*) FROM desist_runs WHERE status = 'COMPLETED'").fetchall() == [(20,)]


def test_the_writers_connection_is_kept(opened: Callable[..., PostgresDb], others: Others) -> None:
    """A process that hasn't written for long still has the connection: nobody can take its place meanwhile."""
    db = opened()
    store: Any = db.store
    assert stored(db, 1) == 1
    thread = store.writer._thread
    of(db)._readers.drop_idle()
    thread.join(30)  # the writer's thread ends when there is nothing to do
    assert store.writer._thread is None
    others.take_all()
    assert stored(db) == 20


def test_a_cancel_from_elsewhere(
    opened: Callable[..., PostgresDb], url: str, others: Others, workers: Callable[[str], Worker]
) -> None:
    """Where nobody can listen or look, runs of other processes are cancelled by the connections that write."""
    db, other = opened(), workers(url)
    others.take_all()
    other.start("half", "far")
    receipt = cancel("far", reason="enough", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(40)
    told = other.hear("end", "far")
    assert (told["status"], told["source"], told["error"]) == ("CANCELLED", "user", None)


def test_a_follower(opened: Callable[..., PostgresDb], others: Others) -> None:
    """A run is followed to its end, by many at once, over the connection that writes."""
    db = opened()
    others.take_all()
    assert stored(db, 1) == 1
    seen: list[list[int]] = []
    threads = [threading.Thread(target=lambda: seen.append([e.event_index for e in db.follow("r0")])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert len(seen) == 6 and all(indexes == list(range(len(indexes))) and indexes for indexes in seen)


# -- the server ends the connection that writes


def test_a_reader_gives_its_connection_up(opened: Callable[..., PostgresDb], others: Others) -> None:
    """A writer that gets no connection takes over one that this process looks with."""
    db = opened()
    assert stored(db, 1) == 1  # a reader is idle now
    heard(db)
    others.take_all()
    others.take_from(db)
    assert of(db)._readers.has_idle
    assert stored(db) == 20


def test_the_listener_gives_its_connection_up(
    opened: Callable[..., PostgresDb], others: Others, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer that gets no connection, where no reader has one, takes the listener's; that is said."""
    db = opened()
    assert stored(db, 1) == 1
    heard(db)
    of(db)._readers.close()  # else a look could have one to give
    others.take_all()
    others.take_from(db)
    workflow = Workflow("W", steps=[lambda step_input: "x"], db=db)
    assert [workflow.run("go").store_error for _ in range(20)] == [None] * 20
    said = [record.getMessage() for record in caplog.records if "polls 20 times a second" in record.getMessage()]
    assert len(said) == 1 and of(db).poll_interval == 0.05


def test_the_writer_is_first_again(opened: Callable[..., PostgresDb], others: Others) -> None:
    """After the server has ended all connections, a look sees to it that the one place left is the writer's."""
    db = opened()
    assert stored(db, 1) == 1
    others.take_all()
    ended = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'desist'"
    others.held[0].execute(ended)
    others.take_all()
    others.held.pop().close()
    assert db.get_run("r0") is not None
    assert is_alive(of(db)._writer._connection)
    assert stored(db) == 20


# -- other limits


def test_a_role_with_one_connection(small: LocalPostgres, opened: Callable[..., PostgresDb]) -> None:
    """A role that may have a single connection gets by with it."""
    small.do("CREATE ROLE thrifty LOGIN CONNECTION LIMIT 1")
    small.do("CREATE SCHEMA thrifty AUTHORIZATION thrifty")
    url = small.url.replace("desist@", "thrifty@")
    db = opened(url)
    assert stored(db) == 20
    with pytest.raises(StoreError, match=r"raise the CONNECTION LIMIT of the role.*too many connections for role"):
        PostgresDb(url, session_table="another", timeout=0.2)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pool_of_one_connection(small: LocalPostgres, mode: str) -> None:
    """Behind PgBouncer that lends a single connection, runs are stored and read."""
    with Pooler(small, mode, 1) as pooler:
        db = PostgresDb(pooler.url + "?connect_timeout=2", db_schema=mode, timeout=20)
        assert stored(db) == 20
        db.close()


def test_a_pool_that_is_used_up(small: LocalPostgres) -> None:
    """A database behind a pool that has nothing left is refused with the reason, and doesn't wait for ever."""
    with Pooler(small, "session", 1) as pooler, psycopg.connect(pooler.url) as other:
        other.execute("SELECT 1")
        with pytest.raises(StoreError, match="raise default_pool_size of PgBouncer"):
            PostgresDb(pooler.url + "?connect_timeout=2", timeout=0.5)


# -- said at the start


def test_no_room_at_the_start(url: str, others: Others) -> None:
    """A process that gets no connection at all is told which limit was reached, and what to do."""
    others.take_all()
    with pytest.raises(StoreError) as caught:
        PostgresDb(url, timeout=0.2)
    for word in (
        "no connection is left",
        "raise max_connections of the server",
        "pg_stat_activity",
        "too many clients",
    ):
        assert word in str(caught.value)


def test_hardly_room_at_the_start(url: str, others: Others, caplog: pytest.LogCaptureFixture) -> None:
    """A process that gets one of the last connections says how many are in use, and of which limit."""
    before = others.clients()
    PostgresDb(url).close()
    assert "are in use" not in caplog.text
    while others.clients() > before:
        pass
    others.take_all()
    others.held.pop().close()
    caplog.set_level(logging.WARNING)
    PostgresDb(url, timeout=20).close()
    assert "8 of 8 connections are in use (max_connections of the server)" in caplog.text


def test_connections_that_are_reserved() -> None:
    """Connections that the server keeps for its superusers don't count as room for others, and do for those."""
    with own_server(max_connections=8, superuser_reserved_connections=5, max_wal_senders=0) as made:
        made.do("CREATE ROLE plain LOGIN CONNECTION LIMIT 7")
        with psycopg.connect(made.url, autocommit=True) as master:
            assert free_connections(master) == (7, "max_connections of the server", 8, 1)
            with psycopg.connect(made.url.replace("desist@", "plain@"), autocommit=True) as plain:
                assert free_connections(plain) == (1, "max_connections of the server", 3, 2)
                master.execute("ALTER ROLE plain CONNECTION LIMIT 1")
                assert free_connections(plain) == (0, "the CONNECTION LIMIT of the role plain", 1, 1)
