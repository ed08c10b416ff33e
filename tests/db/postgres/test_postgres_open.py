"""What can be wrong with a server, and how tables are made, shared and looked over."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from desist import Workflow
from desist.db import PostgresDb, SqliteDb
from desist.db.backends.postgres_read_pool import LIMIT
from desist.db.backends.postgres_schema import Schema
from desist.db.migrations import steps
from desist.db.process.postgres_target import PostgresTarget
from desist.db.tables.sql_transaction import TableNames
from desist.exceptions import ConfigurationError, StoreError, UnsupportedError
from desist.run.events.base import RunStatus
from desist.testing import LocalPostgres, assert_no_leaks

S = RunStatus


def child(code: str, *arguments: object) -> str:
    """Run a program in a process of its own and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- several that begin at once


def test_another_process_is_quicker(new_postgres: Callable[[], str]) -> None:
    """Who has seen no tables, and waits for its turn to make them, sees those that were made meanwhile."""
    target = PostgresTarget(new_postgres())
    slow, quick = Schema(target, None, TableNames()), Schema(target, None, TableNames())
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    with target.connect_within(20) as one, target.connect_within(20) as two, target.connect_within(20) as look:
        assert slow._version_in(one) == 0
        late = threading.Thread(target=slow._upgrade, args=(one,))
        with two.transaction():
            quick._upgrade(two)
            late.start()
            while look.execute(waiting).fetchall() != [(1,)]:
                pass
        late.join(40)
        assert slow._version_in(one) == len(steps())


# -- servers that can't be used


def test_nothing_listens() -> None:
    """Where no server is, that is said at once, and without the password."""
    with pytest.raises(StoreError, match="no server listens there: check whether it runs") as caught:
        PostgresDb("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value) and "postgresql://127.0.0.1:1/x" in str(caught.value)


def test_no_such_database(postgres: LocalPostgres) -> None:
    """A database that isn't there is an error that says what to do."""
    with pytest.raises(StoreError, match="there is no such database: create it, or pass another db_url="):
        PostgresDb(postgres.url_of("nowhere"))


def test_nowhere_to_make_tables(postgres: LocalPostgres) -> None:
    """A connection whose schema isn't there is an error that says what to do."""
    with pytest.raises(StoreError, match="there is no schema for the tables: pass db_schema="):
        PostgresDb(postgres.url_of("postgres", "not_made"))


def test_not_to_be_written(url: str) -> None:
    """A database that may only be read is an error when it is opened, not in the middle of a run."""
    PostgresDb(url).close()
    with pytest.raises(StoreError, match="it can't be written: this is a standby, or the transaction is read-only"):
        PostgresDb(url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20"))


def test_refused_arguments(url: str) -> None:
    """What can't work is refused by name, before anything is made."""
    for wrong, why in (
        ("runs.db", "must look like 'postgresql://"),
        ("postgresql+asyncpg://h/x", r"names the driver '\+asyncpg': desist uses psycopg"),
        ("postgresql://me:se%cret@h/x", "special characters in it must be written as %XX"),
    ):
        with pytest.raises(ConfigurationError, match=why) as caught:
            PostgresDb(wrong)
        assert "se%cret" not in str(caught.value)
    for how, why in (
        ({"db_schema": "a b"}, "db_schema='a b' must be a name"),
        ({"session_table": 'a"b'}, "session_table="),
        ({"session_table": "x" * 60}, "at most"),
        ({"timeout": 0}, "timeout=0"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            PostgresDb(url, **how)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="memory_table="):
        PostgresDb(url, memory_table="m")  # type: ignore[call-arg]


def test_without_the_extra() -> None:
    """Who hasn't installed psycopg is told how to."""
    said = child(
        """
        import sys
        sys.modules["psycopg"] = None
        from desist.db import PostgresDb
        try:
            PostgresDb("postgresql://h/x")
        except ImportError as error:
            print(type(error).__name__, error)
        """
    )
    assert said == "MissingExtraError PostgresDb needs the extra 'postgres': pip install 'desist[postgres]'\n"


def test_psycopg_is_imported_when_it_is_needed() -> None:
    """Whoever uses SQLite, or only names the class, doesn't pay for psycopg."""
    assert child("import sys; from desist.db import PostgresDb, SqliteDb; print('psycopg' in sys.modules)") == "False\n"


def test_of_a_newer_desist(url: str) -> None:
    """Tables of a version that this desist doesn't know are refused, and left as they are."""
    PostgresDb(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE desist_schema SET version = 999")
    with pytest.raises(StoreError, match="newer desist: its tables have version 999"):
        PostgresDb(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version FROM desist_schema").fetchall() == [(999,)]


# -- tables


def test_opened_by_many_at_once(postgres: LocalPostgres) -> None:
    """Processes that open an empty database at the same time make its tables once."""
    code = "import sys; from desist.db import PostgresDb; PostgresDb(sys.argv[1], db_schema='crowd').close()"
    command = [sys.executable, "-W", "error", "-c", code, postgres.url]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [one.communicate(timeout=50)[1] for one in children]
    assert said == [""] * 4
    assert postgres.do("SELECT version FROM crowd.desist_schema") == [(len(steps()),)]


def test_the_same_tables_as_sqlite(url: str, tmp_path: Path) -> None:
    """The steps of both lead to the same tables and columns; only the order of rows has a column more."""
    PostgresDb(url).close()
    SqliteDb(tmp_path / "runs.db").close()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        wanted = {table: {row[1] for row in file.execute(f"PRAGMA table_info({table})")} for table in tables}
        indexes = {row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql > ''")}
    wanted["desist_runs"].add("row_no")
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = current_schema()"
        ).fetchall()
        found = connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()").fetchall()
    assert {table: {name for at, name, _ in columns if at == table} for table in tables} == wanted
    assert {kind for _, _, kind in columns} == {"text", "bigint", "bytea", "double precision"}
    assert indexes <= {row[0] for row in found}


def test_schemas_and_names_keep_apart(url: str, postgres: LocalPostgres) -> None:
    """`db_schema` and `session_table` name other tables; nothing is shared but the server."""
    one = PostgresDb(url, db_schema="Some_Schema")
    two = PostgresDb(url, db_schema="Some_Schema", session_table="Mine")
    three = PostgresDb(url)
    for db in (one, two, three):
        Workflow("W", steps=[lambda step_input: "x"], db=db).run("go", session_id="s", run_id="r")
    assert [len(db.get_runs("s")) for db in (one, two, three)] == [1, 1, 1]
    assert two.delete_run("r") and one.get_run("r") is not None
    for db in (one, two, three):
        db.close()
    assert postgres.do('SELECT count(*) FROM "Some_Schema".desist_runs') == [(1,)]


def test_checked(url: str, tmp_path: Path) -> None:
    """`check()` says at which version the tables are and what is wrong; `upgrade()` says the same of good ones."""
    db = PostgresDb(url)
    report = db.upgrade()
    assert (report.version, report.wanted) == (len(steps()), len(steps()))
    assert [problem for problem in report.problems if "fsync" not in problem and "full_page" not in problem] == []
    assert "fsync of the server is off: a crash of its machine loses data" in report.problems
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'desist_runs_by_time'::regclass")
        connection.execute("DROP TABLE desist_owners")
    problems = db.check().problems
    assert "the table desist_owners is missing" in problems
    assert any("desist_runs_by_time is invalid" in problem for problem in problems)
    db.close()
    good = SqliteDb(tmp_path / "runs.db")
    assert good.check().is_good and good.upgrade().version == len(steps())
    good.close()


# -- connections


def listening(postgres: LocalPostgres) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND state = 'idle'"
    return int(postgres.do(query)[0][0])


def test_one_listens_for_all(own: LocalPostgres) -> None:
    """A process has one connection that listens, however many databases it opens; with the last it is gone."""
    with assert_no_leaks(threads=2, fds=1, sockets=1, settle=20):  # the timer thread, the home loop; one socket
        opened = [PostgresDb(own.url), PostgresDb(own.url, db_schema="b"), PostgresDb(own.url, db_schema="c")]
        for db in opened:
            assert Workflow("W", steps=[lambda step_input: "x"], db=db).run("go").status is S.completed
        while listening(own) != 1:
            opened[0].flush()
        for db in opened:
            db.close()
    while own.do("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'desist'") != [(0,)]:
        pass


def test_many_look_at_once(db: PostgresDb) -> None:
    """However many threads look, a place has few connections; who comes when all are lent waits."""
    store: Any = db.store
    inside, leave, seen = threading.Semaphore(0), threading.Event(), list[Any]()

    def look() -> None:
        with store.backend.reading() as tables:
            inside.release()
            assert leave.wait(30)
            seen.append(tables.runs.get("r"))

    threads = [threading.Thread(target=look) for _ in range(2 * LIMIT)]
    for thread in threads:
        thread.start()
    for _ in range(LIMIT):
        assert inside.acquire(timeout=30)
    assert not inside.acquire(blocking=False)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert seen == [None] * 2 * LIMIT


def test_forked(url: str) -> None:
    """A forked child has connections of its own, and ends none of its parent's."""
    said = child(
        """
        import os, sys
        from desist import Workflow
        from desist.db import PostgresDb

        db = PostgresDb(sys.argv[1], timeout=20)
        workflow = Workflow("W", steps=[lambda given: "x"], db=db)
        workflow.run("go", run_id="before")
        child = os.fork()
        if child == 0:
            output = workflow.run("go", run_id="in the child")
            ok = output.store_error is None and db.get_run("before") is not None
            db.close()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        workflow.run("go", run_id="after")
        db.flush()
        print([db.get_run(name).status.value for name in ("before", "in the child", "after")])
        db.close()
        """,
        url,
    )
    assert said == "['COMPLETED', 'COMPLETED', 'COMPLETED']\n"


def test_the_address_is_of_one_process(url: str) -> None:
    """A forked child is called by a name of its own."""
    said = child(
        """
        import os, sys
        from desist import Workflow
        from desist.db import PostgresDb

        db = PostgresDb(sys.argv[1], timeout=20)
        workflow = Workflow("W", steps=[lambda given: "x"], db=db)
        workflow.run("go")
        print(db.store.backend.address, flush=True)
        if os.fork() == 0:
            workflow.run("go")
            print(db.store.backend.address, flush=True)
            db.close()
            os._exit(0)
        os.wait()
        db.close()
        """,
        url,
    )
    one, two = said.split()
    assert one != two and re.fullmatch(r"desist_[0-9a-f]{20}", one)


def test_a_local_server_that_is_missing(tmp_path: Path) -> None:
    """Where Postgres isn't installed, `LocalPostgres` says what to install."""
    said = child(
        """
        from pathlib import Path
        from desist.testing import LocalPostgres
        LocalPostgres.binaries = staticmethod(lambda: None)
        try:
            LocalPostgres()
        except ValueError as error:
            print(error)
        """
    )
    assert "install Postgres" in said
    assert os.listdir(tmp_path) == []
