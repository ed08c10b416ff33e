"""A process that freezes or dies in the middle of a transaction holds others up for a bounded time only."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
from database_worker import Worker

from desist.cancel.scope import Outcome
from desist.db import PostgresDb
from desist.db.backends.postgres import LOCKED
from desist.db.process.identity import is_dead, this_process
from desist.db.tables.postgres import FROZEN
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus

S = RunStatus
Start = Callable[[], Worker]


def test_frozen_while_it_holds_the_run(worker: Start, db: PostgresDb) -> None:
    """A worker that is stopped in mid-transaction has locked its run: a cancel waits for `FROZEN`, and is accepted."""
    assert FROZEN < LOCKED
    other = worker()
    other.start("half", "r")
    other.tell("freeze", "r", at="held")
    other.hear("frozen", "r")
    other.wait_stopped()
    receipt = cancel("r", reason="no answer", db=db)
    assert receipt.outcome is Outcome.accepted
    assert receipt.wait(40)
    assert (receipt.status, db.get_run("r").status) == (S.cancelled, S.cancelled)
    before = db.get_run("r")
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert (told["status"], told["reason"], told["terminal"], told["error"]) == ("CANCELLED", "no answer", 1, None)
    assert db.get_run("r") == before


def test_frozen_when_it_has_decided(worker: Start, db: PostgresDb) -> None:
    """Stopped between its decision and the commit: nobody saw that decision. The record says CANCELLED, the worker
    tells once, and says that what it tells isn't stored."""
    other = worker()
    other.start("wait", "r")
    other.tell("freeze", "r", at="decided")
    other.hear("frozen", "r")
    other.wait_stopped()
    receipt = cancel("r", reason="no answer", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(40)
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert told["terminal"] == 1
    assert "was cancelled by another process" in told["error"] or "was taken over" in told["error"]
    assert (receipt.status, db.get_run("r").status) == (S.cancelled, S.cancelled)


def test_frozen_before_it_decides(worker: Start, db: PostgresDb) -> None:
    """Stopped when it holds the run and has decided nothing: when it wakes it sees that it holds nothing, and obeys."""
    other = worker()
    other.start("wait", "r")
    other.tell("freeze", "r", at="deciding")
    other.hear("frozen", "r")
    other.wait_stopped()
    receipt = cancel("r", reason="no answer", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(40)
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert (told["status"], told["reason"], told["terminal"], told["error"]) == ("CANCELLED", "no answer", 1, None)


def test_frozen_for_a_moment(worker: Start, db: PostgresDb) -> None:
    """Stopped at that moment, and woken before anybody asks: the end counts."""
    other = worker()
    other.start("wait", "r")
    other.tell("freeze", "r", at="decided")
    other.hear("frozen", "r")
    other.wait_stopped()
    other.signal(signal.SIGCONT)
    told = other.hear("end", "r")
    assert (told["status"], told["error"]) == ("COMPLETED", None)
    receipt = cancel("r", db=db)
    assert (receipt.outcome, receipt.status) == (Outcome.finished, S.completed)


def test_killed_while_the_end_is_written(worker: Start, db: PostgresDb) -> None:
    """kill -9 between decision and commit: the end isn't there, and wasn't told; the run is ended by who looks."""
    other = worker()
    other.start("wait", "r")
    other.tell("freeze", "r", at="decided", **{"with": "SIGKILL"})
    other.process.wait(30)
    receipt = cancel("r", reason="gone", db=db)
    assert (receipt.outcome, receipt.wait(30), receipt.status) == (Outcome.accepted, True, S.cancelled)
    assert db.get_run("r").cancel.reason == "gone"


def test_cancelled_while_the_claim_is_written(worker: Start, db: PostgresDb, url: str) -> None:
    """A claim and a cancel of one id at once, in two processes: whoever is first, the run never goes on unheard."""
    other = worker()
    for number in range(30):
        run_id = f"r{number}"
        other.tell("run", run_id, kind="wait")
        receipt = cancel(run_id, reason="at once", db=db)
        if receipt.outcome is Outcome.accepted:
            assert receipt.wait(30)
        else:
            assert receipt.outcome is Outcome.unknown
        told = other.hear("end", run_id)
        assert (told["status"], told["reason"], told["error"]) == ("CANCELLED", "at once", None)
        assert db.get_run(run_id).status is S.cancelled


def test_no_part_of_a_zombie(db: PostgresDb, url: str) -> None:
    """A part that is being added keeps the run from changing hands until it is there; a late one is refused."""
    store: Any = db.store
    store.writer.put(lambda tables: _open_run(tables)).result()
    with psycopg.connect(url, autocommit=False) as zombie:
        adding = (
            "INSERT INTO desist_run_parts (run_id, kind, value) SELECT 'r', 'step', '1' FROM desist_runs"
            " WHERE run_id = 'r' AND epoch = 1 FOR SHARE"
        )
        assert zombie.execute(adding).rowcount == 1
        taking = store.writer.put(lambda tables: _take(tables))
        while not db_waits(url):
            pass
        zombie.commit()
        assert taking.result(20) == ["1"], "whoever takes the run sees the part"
        assert zombie.execute(adding).rowcount == 0
        zombie.commit()


def db_waits(url: str) -> bool:
    with psycopg.connect(url) as connection:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'desist'"
        return bool(connection.execute(waits).fetchall()[0][0])


def _open_run(tables: Any) -> None:
    row = "('r', 'agent', 'RUNNING', 'r', 'p', 0, 0, '{}', 1)"
    names = "run_id, kind, status, root_run_id, process, created_at, updated_at, output, epoch"
    tables.tx.execute(f"INSERT INTO desist_runs ({names}) VALUES {row}")


def _take(tables: Any) -> list[str]:
    row = tables.runs.get("r")
    found = [part.value for part in tables.parts.of_run("r")]
    row.epoch += 1
    tables.runs.put(row)
    return found


def test_another_machine_of_the_same_name() -> None:
    """Machines that share a database may share a name: a start that isn't this machine's needn't be over."""
    where, boot, pid, started = this_process().split("|")
    twin = f"{where}|{'0' * len(boot)}|{pid}|{started}"
    assert is_dead(twin)
    assert not is_dead(twin, everywhere=True)
    assert not is_dead(this_process(), everywhere=True)
    assert is_dead(f"{where}|{boot}|{pid}|{started}0", everywhere=True)


def test_a_lease_that_is_over(worker: Start, db: PostgresDb, url: str) -> None:
    """A process that can't be seen from here is believed dead when the server's clock says that its lease is over, and
    it isn't renewed for as long as heartbeats take: the clock may have stepped."""
    other = worker()
    other.start("half", "r")
    far = "UPDATE desist_runs SET process = 'elsewhere/1|b|1|1'"
    with psycopg.connect(url) as server:
        server.execute(far)
        server.execute(
            "INSERT INTO desist_owners VALUES ('elsewhere/1|b|1|1', '', extract(epoch FROM clock_timestamp()) + 3600)"
        )
    assert not db.get_run("r").status.is_final
    with psycopg.connect(url) as server:
        server.execute("UPDATE desist_owners SET until = %s", (time.time() - 1,))
    assert not db.get_run("r").status.is_final
    assert db.end_lost_runs() == ["r"]  # waits
    assert db.get_run("r").status is S.error
    other.kill()
