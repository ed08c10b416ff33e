"""A database of the version before, in which DBOS dispatched runs, with runs in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_databases import open_db

from desist import RunStatus, Workflow
from desist.db.migrations import POSTGRES, statements, steps
from desist.db.tables.base import RunRow, columns_of
from desist.db.tables.sql_transaction import TableNames
from desist.engine import Worker

BEFORE = 7


def connect(url: str) -> tuple[Any, Callable[[str, tuple[Any, ...]], Any]]:
    """Return a connection, and what executes a statement with `?` on it."""
    if not url.startswith("postgresql"):
        plain = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        return plain, plain.execute
    from desist.db.process.postgres_target import PostgresTarget

    connection = PostgresTarget(url).connect()
    return connection, lambda statement, values: connection.execute(statement.replace("?", "%s").encode(), values)


@pytest.fixture(params=["sqlite", "postgres"])
def urls(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> tuple[str, str]:
    if request.param == "postgres":
        return new_postgres(), new_postgres()
    return f"sqlite:///{tmp_path}/new.db", f"sqlite:///{tmp_path}/old.db"


def test_runs_of_the_version_before(urls: tuple[str, str]) -> None:
    """Runs that waited there, sent to DBOS or not, are executed; those that had ended leave the queue."""
    rows = []
    new = open_db(urls[0])
    story = Workflow("Story", steps=[lambda given: given.input], db=new)
    for name in ("waits", "sent", "ended"):
        run_id = story.submit(name).run_id
        with new.store.backend.reading() as tables:
            rows.append(tables.runs.get(run_id))
    new.close()
    rows[2].status = "COMPLETED"
    connection, execute = connect(urls[1])
    with closing(connection):
        dialect = POSTGRES if urls[1].startswith("postgresql") else None
        execute("CREATE TABLE desist_schema (version BIGINT NOT NULL)", ())
        for step in steps()[:BEFORE]:
            for statement in statements(step, TableNames().as_dict(), dialect):
                execute(statement, ())
        execute("INSERT INTO desist_schema VALUES (?)", (BEFORE,))
        for number, row in enumerate(rows):
            values = [getattr(row, name) for name in RunRow.__slots__]
            execute(
                f"INSERT INTO desist_runs ({columns_of(RunRow)}) VALUES ({', '.join('?' * len(values))})",
                tuple(values),
            )
            execute(
                "INSERT INTO desist_queue (run_id, owner_id, options, sent, at) VALUES (?, 'story', '{}', ?, ?)",
                (row.run_id, number, row.created_at),
            )
    old = open_db(urls[1])
    report = old.check()
    assert report.version == report.wanted
    assert [run.run_id for run in old.queued_runs()] == [rows[0].run_id, rows[1].run_id]
    story = Workflow("Story", steps=[lambda given: given.input], db=old)
    with Worker(workflows=[story], db=old):
        for row, name in zip(rows[:2], ("waits", "sent"), strict=True):
            output = story.submitted(row.run_id).result(40)
            assert (output.status, output.content) == (RunStatus.completed, name)
    assert [one.queued + one.running for one in old.queue_statistics()] in ([], [0])
    old.close()
