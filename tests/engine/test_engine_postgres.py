"""What only Postgres has: the end of a process on another machine, a server that goes away, poolers."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from engine_process import WorkerProcess
from postgres_databases import own_server
from postgres_pooler import Pooler

from desist import RunStatus, Step, StepInput, Workflow
from desist.db import PostgresDb
from desist.db.process.postgres_target import PostgresTarget
from desist.engine import Worker
from desist.engine.liveness_lock import RECONNECT_TIMEOUT, LivenessLock
from desist.exceptions import StoreError
from desist.testing import Gate

S = RunStatus
HOLD = """
import sys
from desist.db.process.postgres_target import PostgresTarget
from desist.engine.liveness_lock import LivenessLock

line = LivenessLock(PostgresTarget(sys.argv[1]))
line.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_the_end_of_a_process_elsewhere_is_seen(new_postgres: Callable[[], str]) -> None:
    """A process on any machine holds a lock while it is connected; its end is seen without waiting for a lease."""
    url = new_postgres()
    ours = LivenessLock(PostgresTarget(url))
    ours.hold("ours")
    command = [sys.executable, "-W", "error", "-c", HOLD, url, "theirs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert not ours.is_released("theirs")
        other.kill()
        began = time.monotonic()
        while not ours.is_released("theirs"):
            assert time.monotonic() - began < 40
        assert time.monotonic() - began >= RECONNECT_TIMEOUT, "it might only have been connecting anew"
    assert ours.is_released("theirs"), "looking doesn't take the lock for good"
    ours.close()


def test_a_worker_without_connections_says_what_to_do(new_postgres: Callable[[], str]) -> None:
    """A server that has no connection left for the lock is a StoreError that names limit and remedy."""
    url, role = new_postgres(), f"worker_{uuid.uuid4().hex[:8]}"
    with PostgresTarget(url).connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 0".encode())
    limited = re.sub(r"//[^@/]*@", "//", url).replace("//", f"//{role}:p@", 1)
    with pytest.raises(StoreError, match=r"liveness lock of a worker: .*raise the CONNECTION LIMIT of the role"):
        LivenessLock(PostgresTarget(limited)).hold("ours")


def test_a_connection_that_was_lost_is_made_anew(new_postgres: Callable[[], str]) -> None:
    """A worker whose connection breaks holds its lock again before others take it for dead."""
    url = new_postgres()
    ours, theirs = LivenessLock(PostgresTarget(url)), LivenessLock(PostgresTarget(url))
    ours.hold("ours")
    theirs.hold("theirs")
    with PostgresTarget(url).connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    for line, name in ((ours, "ours"), (theirs, "theirs")):
        while True:
            try:
                line.hold(name)
                break
            except Exception as error:
                assert isinstance(error, StoreError)
    assert not ours.is_released("theirs") and not theirs.is_released("ours")
    ours.close()
    theirs.close()


def test_the_server_restarts(caplog: Any) -> None:
    """Workers outlive a restart of the server: what waits is driven when it is back."""
    server = own_server()
    server.start()
    try:
        url = server.url
        db = PostgresDb(url, timeout=40)
        workflow = Workflow("W", steps=[Step("one", executor=lambda given: given.input)], db=db)
        with Worker(workflows=[workflow], db=db):
            assert workflow.submit("before").result(40).content == "before"
            server.stop("fast")
            server.start()
            assert workflow.submit("after").result(50).content == "after"
        db.close()
    finally:
        server.close()


def test_behind_a_pooler() -> None:
    """Through PgBouncer, which lends connections for one transaction only, runs are driven and cancelled, too."""
    server = own_server()
    server.start()
    gate = Gate()

    async def wait(given: StepInput) -> None:
        await gate.wait()

    try:
        with Pooler(server, "transaction") as pooler:
            db = PostgresDb(pooler.url, timeout=40)
            workflow = Workflow("W", steps=[wait], db=db)
            with Worker(workflows=[workflow], db=db):
                submitted = workflow.submit("go")
                gate.wait_reached(timeout=50)
                assert submitted.cancel(reason="enough").wait(40)
                assert submitted.status is S.cancelled
                gate.open()
                assert workflow.submit("go").result(40).status is S.completed
            db.close()
    finally:
        server.close()


def test_a_worker_on_another_machine(new_postgres: Callable[[], str]) -> None:
    """A worker whose process can't be looked at, as on another machine, is seen to die by its lock; its runs go on."""
    url = new_postgres()
    db = PostgresDb(url, timeout=20)
    elsewhere = {"DESIST_TEST_HOST": "another-machine"}
    one = WorkerProcess("embedded", url, "kept", env=elsewhere)
    steps = [Step(name, executor=lambda given: "x") for name in ("one", "two", "three")]
    submitted = Workflow("Kept", steps=steps, db=db, on_crash="resume").submit("go")
    one.hear("at", submitted.run_id)
    two = WorkerProcess("embedded", url, "kept").wait_ready()
    try:
        one.kill()
        two.hear("at", submitted.run_id)
        two.tell("open", submitted.run_id)
        assert submitted.result(40).status is S.completed
    finally:
        one.close()
        two.close()
        db.close()
