"""Claims of ids that clients choose: of two that want one, one gets it, in whichever threads or processes they are."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from claim_process import run_of, session_of

from desist.cancel.reason import CancelReason, Source
from desist.db import BaseDb, SqliteDb
from desist.db.process.unregistered_runs import unregistered_runs
from desist.run.storage.values import CancelRequest

PAIRS = 200
USERS = ("ann", "bob")


@pytest.mark.parametrize("what", ["session", "run"])
def test_threads_that_claim_one_id(db: BaseDb, what: str) -> None:
    """200 times two users claim a new id at one moment, sessions of different kinds too: exactly one has it."""
    both = threading.Barrier(2)

    def claim(number: int, user: str) -> bool:
        kind = "workflow" if user == "bob" and number % 2 else "agent"
        both.wait(30)  # each is held here until the other one is, too
        if what == "run":
            return db.store.reserve_run(run_of(f"r{number}", user))
        others = db.store.claim_session(session_of(f"s{number}", user, kind))
        assert not others or others == set(USERS) - {user}
        return not others

    with ThreadPoolExecutor(2) as pool:
        for number in range(PAIRS):
            assert sorted(pool.map(lambda user, number=number: claim(number, user), USERS)) == [False, True]
    for number in range(PAIRS):
        if what == "run":
            db.store.end_reservation(f"r{number}")
    assert not [number for number in range(PAIRS) if f"r{number}" in unregistered_runs]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "json"])
def test_processes_that_claim_one_id(kind: str, tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    """Two processes on one database, 200 pairs of each: exactly one of a pair has the session, or the run."""
    place = new_postgres() if kind == "postgres" else str(tmp_path / "place")
    program = str(Path(__file__).with_name("claim_process.py"))
    peers = [
        subprocess.Popen(
            [sys.executable, program, kind, place, user], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for user in USERS
    ]
    try:
        assert [peer.stdout.readline() for peer in peers if peer.stdout] == ["ready\n"] * 2
        for number in range(PAIRS):
            for what in ("session", "run"):
                for peer in peers:
                    assert peer.stdin is not None
                    peer.stdin.write(f"{what} {what[0]}{number}\n")
                    peer.stdin.flush()
                heard = sorted(peer.stdout.readline() for peer in peers if peer.stdout)
                assert heard == ["mine\n", "other\n"], (what, number)
    finally:
        for peer in peers:
            peer.communicate(timeout=30)


def test_whose_a_session_is(db: BaseDb) -> None:
    """Its user's, for sessions of any kind; one that was forgotten belongs to those whose runs are in it."""
    store = db.store
    assert store.claim_session(session_of("s", "ann")) == set()
    assert store.claim_session(session_of("s", "ann", "workflow")) == set()  # the same user, another kind
    assert store.claim_session(session_of("s", "bob", "workflow")) == {"ann"}
    first = store.load_session("s", "agent")
    assert first is not None and first.user_id == "ann" and first.session_data == {}
    run = run_of("r", "ann")
    run.session_id = "t"
    assert store.reserve_run(run)
    assert store.claim_session(session_of("t", "bob")) == {"ann"}
    store.end_reservation("r")


def test_a_reserved_run(db: BaseDb) -> None:
    """Whoever looks while it is about to start sees it live; one whose start fails is forgotten."""
    store = db.store
    assert store.reserve_run(run_of("r", "ann"))
    found = store.load_run("r")
    assert found is not None and not found.status.is_final and found.user_id == "ann"
    assert not store.reserve_run(run_of("r", "ann"))
    store.end_reservation("r")
    getattr(store, "flush", bool)()
    assert store.load_run("r") is None
    assert store.reserve_run(run_of("r", "bob"))
    store.end_reservation("r")


def test_a_reserved_run_that_was_cancelled(sqlite: SqliteDb) -> None:
    """A cancel of a run that is about to start, and then doesn't, keeps its word: the run ends CANCELLED."""
    store = sqlite.store
    assert store.reserve_run(run_of("r", "ann"))
    request = CancelRequest(reason=CancelReason(source=Source.user, text="mine"))
    receipt = store.request_cancel("r", request)  # type: ignore[attr-defined]
    assert receipt.outcome.value == "accepted"
    store.end_reservation("r")
    sqlite.flush()
    found = store.load_run("r")
    assert found is not None and found.status.value == "CANCELLED" and found.output.cancel.reason == "mine"
