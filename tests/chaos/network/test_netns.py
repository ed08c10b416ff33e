"""C8: a host that is cut off from the database. Its runs pass on; when the wire is mended, it writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from database_worker import Worker
from netns_host import Host, why_not
from postgres_databases import missing

from desist.cancel.scope import Outcome
from desist.db import PostgresDb
from desist.run.cancel import cancel
from desist.run.events.base import RunStatus
from desist.testing import LocalPostgres

S = RunStatus


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    reason = why_not()
    if reason is not None:
        missing("netns", reason)
    with Host() as one, Host() as two:
        yield one, two


@pytest.fixture
def server(hosts: tuple[Host, Host]) -> Iterator[LocalPostgres]:
    """A server that both hosts see, each by its own wire."""
    if LocalPostgres.binaries() is None:
        missing("postgres", "Postgres isn't installed (Debian: postgresql)")
    with LocalPostgres(host="0.0.0.0") as made:
        yield made


def worker_on(host: Host, server: LocalPostgres) -> Worker:
    return Worker(server.url.replace("0.0.0.0", host.near), *host.prefix)


@pytest.fixture
def db(server: LocalPostgres) -> Iterator[PostgresDb]:
    opened = PostgresDb(server.url.replace("0.0.0.0", "127.0.0.1"), timeout=20)
    yield opened
    opened.close()


def test_the_lease_passes_on(hosts: tuple[Host, Host], server: LocalPostgres, db: PostgresDb) -> None:
    """A worker that is cut off loses its run to one elsewhere. Though it had done all of it, it ends `lease_lost`."""
    one, two = worker_on(hosts[0], server), worker_on(hosts[1], server)
    one.start("kept", "r", on_crash="resume")
    while not db.get_run("r").step_results:
        db.flush()
    hosts[0].cut()
    taken: list[str] = []
    while not taken:  # for as long as the lease lasts
        two.tell("resume", "r")
        taken = two.hear("resumed", "r")["runs"]
    assert taken == ["r"]
    two.hear("at", "r")
    one.tell("open", "r")  # the zombie works on: its second step is done, and the third
    hosts[0].mend()
    told = one.hear("end", "r")
    assert (told["status"], told["source"], told["terminal"]) == ("CANCELLED", "lease_lost", 1)
    assert "was taken over" in told["error"]
    assert not db.get_run("r").status.is_final, "the other one works on it"
    two.tell("open", "r")
    while not db.get_run("r").status.is_final:
        db.flush()
    output = db.get_run("r")
    assert (output.status, len(output.step_results)) == (S.completed, 3)
    assert server.do("SELECT epoch FROM desist_runs WHERE run_id = 'r'", url=db.db_url) == [(2,)]
    for worker in (one, two):
        worker.close()


def test_a_zombie_that_waits(hosts: tuple[Host, Host], server: LocalPostgres, db: PostgresDb) -> None:
    """The same, with work that still goes on when the wire is mended: it is cancelled there, with `lease_lost`."""
    one, two = worker_on(hosts[0], server), worker_on(hosts[1], server)
    one.start("kept", "r", on_crash="resume")
    while not db.get_run("r").step_results:
        db.flush()
    hosts[0].cut()
    taken: list[str] = []
    while not taken:
        two.tell("resume", "r")
        taken = two.hear("resumed", "r")["runs"]
    two.hear("at", "r")
    hosts[0].mend()
    told = one.hear("end", "r")
    assert (told["status"], told["source"], told["terminal"]) == ("CANCELLED", "lease_lost", 1)
    assert cancel("r", db=db).wait(30)
    for worker in (one, two):
        worker.close()


def test_cancelled_while_cut_off(hosts: tuple[Host, Host], server: LocalPostgres, db: PostgresDb) -> None:
    """A cancel of a run whose host is cut off is accepted, and carried out on the record; the host obeys, later."""
    one = worker_on(hosts[0], server)
    one.start("kept", "r")
    while not db.get_run("r").step_results:
        db.flush()
    hosts[0].cut()
    receipt = cancel("r", reason="enough", db=db)
    assert receipt.outcome is Outcome.accepted and receipt.wait(60)
    before = db.get_run("r")
    assert (before.status, [step.content for step in before.step_results]) == (S.cancelled, ["done"])
    hosts[0].mend()
    told = one.hear("end", "r")
    assert (told["status"], told["reason"], told["terminal"], told["error"]) == ("CANCELLED", "enough", 1, None)
    assert db.get_run("r") == before
    one.close()
