"""A server that crashes while the processes that use it live on: what was seen in it is there afterwards."""

from __future__ import annotations

from typing import Any

from postgres_databases import own_server

from desist import Step, Workflow
from desist.db import PostgresDb
from desist.db.backends.postgres import _UnknownOutcome
from desist.db.writer import WriteJob
from desist.run.events.base import RunStatus
from desist.testing import Gate, LocalPostgres


def test_what_was_seen_is_there_after_a_crash() -> None:
    """Steps and events that others could see as stored aren't lost, though nobody waited for them to be stored."""
    gate = Gate()

    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "two"

    counts = "SELECT (SELECT count(*) FROM desist_run_parts), (SELECT count(*) FROM desist_events)"
    with own_server(wal_writer_delay="10s") as server:  # what isn't flushed by a commit isn't flushed
        db = PostgresDb(server.url, timeout=40)
        steps = [Step("one", executor=lambda step_input: "one"), Step("two", executor=wait)]
        reader = Workflow("W", steps=steps, db=db).run("go", run_id="r", stream=True, stream_events=True)
        gate.wait_reached()
        while (seen := server.do(counts)[0])[0] == 0:
            pass
        server.restart("crash")
        parts, events = server.do(counts)[0]
        assert parts >= seen[0] and events >= seen[1]
        gate.open()
        *_, last = reader
        assert last.status is RunStatus.completed
        assert [step.content for step in db.get_run("r").step_results] == ["one", "two"]
        db.close()


def test_a_look_is_over_when_its_connection_breaks(db: PostgresDb, postgres: LocalPostgres) -> None:
    """What was seen is seen: that the look can't be ended in order harms nobody."""
    place: Any = db.store.backend  # type: ignore[attr-defined]  # of a shared store
    with place.reading() as tables:
        ((backend,),) = tables.tx.rows("SELECT pg_backend_pid()")
        assert tables.runs.get("r") is None
        assert postgres.do("SELECT pg_terminate_backend(%s, 20000)", backend) == [(True,)]
    assert db.get_run("r") is None


def test_a_transaction_that_a_crashed_server_doesn_t_know(db: PostgresDb) -> None:
    """A number that the server had given before it crashed, and hasn't given again: what was in doubt isn't done."""
    place: Any = db.store.backend  # type: ignore[attr-defined]  # of a shared store
    job = WriteJob(lambda tables: "done anew", durable=True)
    place._doubt = _UnknownOutcome(2**40, [job], ["lost"])
    assert place.write([job]) == ["done anew"]
    place.detach()()
