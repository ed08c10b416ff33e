"""PgBouncer: one that lends connections for a transaction is found out, said, and looked through; others do no harm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from journal_process import Worker
from postgres_pooler import Pooler

from desist import Workflow
from desist.cancel.scope import Outcome
from desist.db import PostgresDb
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import LocalPostgres

S = RunStatus


@pytest.fixture(params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest, own: LocalPostgres) -> Iterator[Pooler]:
    with Pooler(own, request.param) as made:
        yield made


def test_through_a_pooler(
    pooler: Pooler,
    workers: Callable[[str], Worker],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    """Runs, cancels from another process and receipts are the same; that calls don't come through is said once."""
    transactions = request.node.callspec.params["pooler"] == "transaction"
    caplog.set_level(logging.WARNING)
    db = PostgresDb(pooler.url, timeout=20)
    same = PostgresDb(pooler.url, db_schema="another", timeout=20)
    other = workers(pooler.url)
    for number in range(8):  # statements are used often enough to be prepared, if they were
        run_id = f"r{number}"
        other.start("half", run_id)
        receipt = cancel(run_id, reason="enough", db=db)
        assert receipt.outcome is Outcome.accepted and receipt.wait(30)
        told = other.hear("end", run_id)
        assert (told["status"], told["source"], told["error"]) == ("CANCELLED", "user", None)
        for use in (db, same):
            workflow = Workflow("W", steps=[lambda step_input: "done"], db=use)
            output = workflow.run("go", session_id="s")
            assert (output.status, output.store_error) == (S.completed, None)
    assert len(db.get_runs("s", "workflow")) == 16 and len(same.get_runs("s")) == 8
    place = db.store.place  # type: ignore[attr-defined]
    while place._listener._thread.is_alive() and not place._listener.hears:
        db.flush()
    heard = place._listener.hears
    said = [record.getMessage() for record in caplog.records if "behind a pooler" in record.getMessage()]
    assert (heard, len(said)) == ((False, 1) if transactions else (True, 0))
    assert bool(place.address) is heard
    assert place.poll_interval == (0.25 if heard else 0.05)
    db.close()
    same.close()
