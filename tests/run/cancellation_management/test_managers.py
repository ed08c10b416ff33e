"""Cancels through a manager: Redis, with the truth of a database; a program's own, by polling."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desist import Workflow
from desist.cancel.scope import Outcome
from desist.exceptions import ConfigurationError, RunCancelled, StoreError
from desist.run.cancellation_management import (
    BaseRunCancellationManager,
    InMemoryRunCancellationManager,
    RedisRunCancellationManager,
    acancel_run,
    cancel,
    get_cancellation_manager,
    set_cancellation_manager,
)
from desist.run.events.base import RunStatus
from desist.testing import Gate

S = RunStatus
WAIT = 100.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis on loopback."""
    program = shutil.which("redis-server")
    if program is None:
        if "redis" in os.environ.get("DESIST_REQUIRE", "").split(","):
            pytest.fail("redis-server is missing, and DESIST_REQUIRE asks for it")
        pytest.skip("redis-server isn't installed")
    folder = tmp_path_factory.mktemp("redis")
    settings = ["--port", "0", "--unixsocket", str(folder / "s"), "--save", "", "--dir", str(folder)]
    for port in range(26_379, 26_479):
        settings[1] = str(port)
        process = subprocess.Popen(
            [program, *settings, "--bind", "127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        if any("Ready to accept" in line for line in process.stdout):
            break
    else:
        pytest.fail("Redis doesn't start")
    reading = threading.Thread(target=process.stdout.read)
    reading.start()
    yield port
    process.terminate()
    process.wait(WAIT)
    reading.join(WAIT)
    process.stdout.close()


@pytest.fixture
def client(server: int) -> Iterator[Any]:
    import redis

    with redis.Redis(port=server) as made:
        made.flushall()
        yield made


@pytest.fixture
def manager(client: Any) -> Iterator[RedisRunCancellationManager]:
    made = RedisRunCancellationManager(client)
    set_cancellation_manager(made)
    yield made
    set_cancellation_manager(None)


class Worker:
    """Another process with the same Redis."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-W", "error", str(Path(__file__).with_name("manager_worker.py")), str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear("ready")

    def hear(self, what: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if what in said:
                return said
        raise AssertionError(f"the worker ended before it said {what!r}")

    def tell(self, do: str, run_id: str) -> None:
        assert self.process.stdin is not None
        print(json.dumps({"do": do, "id": run_id}), file=self.process.stdin, flush=True)


@pytest.fixture
def worker(server: int, client: Any) -> Iterator[Worker]:
    made = Worker(server)
    yield made
    assert made.process.stdin is not None and made.process.stdout is not None
    made.process.stdin.close()
    try:
        made.process.wait(WAIT)
    finally:
        made.process.kill()
        made.process.stdout.close()


def test_another_process(manager: RedisRunCancellationManager, worker: Worker) -> None:
    """A run of another process is stopped; its receipt here says what became of it, and again the same."""
    worker.tell("run", "another_process")
    worker.hear("at")
    receipt = cancel("another_process", reason="enough", by="me")
    assert (receipt.outcome, bool(receipt)) == (Outcome.accepted, True)
    assert receipt.wait(WAIT)
    told = worker.hear("end")
    assert told == {"end": "another_process", "status": "CANCELLED", "reason": "enough", "by": "me"}
    assert (receipt.status, receipt.reason, receipt.abandoned) == (S.cancelled, "enough", [])
    assert receipt.settled_at is not None
    again = cancel("another_process", reason="again")
    assert (again.outcome, again.status, again) == (Outcome.already_cancelled, S.cancelled, receipt)


def test_too_late(manager: RedisRunCancellationManager, worker: Worker) -> None:
    """A run that has completed elsewhere stays so, and the receipt says it."""
    worker.tell("run", "too_late")
    worker.tell("open", "too_late")
    worker.hear("end")
    receipt = cancel("too_late")
    assert (receipt.outcome, bool(receipt), receipt.status) == (Outcome.finished, False, S.completed)
    assert receipt.wait(WAIT)


def test_before_the_start(manager: RedisRunCancellationManager, worker: Worker) -> None:
    """A run that was cancelled before any process knew it never begins there."""
    assert cancel("before_the_start", reason="never").outcome is Outcome.unknown
    worker.tell("run", "before_the_start")
    told = worker.hear("end")
    assert (told["status"], told["reason"]) == ("CANCELLED", "never")


def test_races(manager: RedisRunCancellationManager, worker: Worker) -> None:
    """B1 through Redis: whatever comes first, the receipt is what the run then is."""
    seen: Counter[str] = Counter()
    for number in range(60):
        run_id = f"m{number}"
        worker.tell("run", run_id)
        worker.hear("at")
        worker.tell("open", run_id)
        receipt = cancel(run_id)
        told = worker.hear("end")
        assert bool(receipt) == (told["status"] == "CANCELLED"), (receipt, told)
        assert receipt.wait(WAIT)
        assert receipt.status is not None and receipt.status.value == told["status"]
        seen[told["status"]] += 1
    assert set(seen) <= {"CANCELLED", "COMPLETED"}


def test_its_own_runs(manager: RedisRunCancellationManager, client: Any) -> None:
    """A run of this process is cancelled as ever, and others are told; the plain methods of the API answer."""
    gate = Gate("here")

    async def wait(step_input: Any) -> str:
        await gate.wait()
        return "done"

    events = Workflow("W", steps=[wait]).run("x", run_id="mine", stream=True)
    next(iter(events))
    gate.wait_reached(timeout=WAIT)
    assert manager.get_active_runs() == {"mine": False}
    assert cancel("mine", reason="enough").outcome is Outcome.accepted
    rest = [event.event for event in events]
    assert rest[-1] == "WorkflowCancelled"
    other = RedisRunCancellationManager(client)
    while (noted := other.get_state("mine")) is None or noted.state != "ended":
        pass
    assert (noted.status, other.get_active_runs(), other.is_cancelled("mine")) == ("CANCELLED", {}, False)
    assert other.cancel_run("mine") is True
    assert other.cancel_run("nobody") is False
    assert other.is_cancelled("nobody")
    with pytest.raises(RunCancelled):
        other.raise_if_cancelled("nobody")
    other.cleanup_run("nobody")
    assert not other.is_cancelled("nobody")


@pytest.mark.anyio
async def test_async(manager: RedisRunCancellationManager, worker: Worker) -> None:
    """Async code cancels runs of other processes without holding up its loop."""
    worker.tell("run", "async")
    worker.hear("at")
    assert await manager.ais_cancelled("async") is False
    assert await acancel_run("async") is True
    assert worker.hear("end")["status"] == "CANCELLED"


@pytest.mark.loud
def test_redis_is_gone() -> None:
    """Without Redis a run goes on and says that its end isn't known to be true everywhere; a cancel is no receipt."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    set_cancellation_manager(RedisRunCancellationManager(client))
    try:
        output = Workflow("W", steps=[lambda given: "done"]).run("x")
        assert (output.status, output.content) == (S.completed, "done")
        assert output.store_error is not None and "cancellation manager" in output.store_error
        with pytest.raises(StoreError, match="run redis_is_gone: the cancellation manager did not confirm the request"):
            cancel("redis_is_gone")
    finally:
        set_cancellation_manager(None)


class Noticeboard(BaseRunCancellationManager):
    """A manager with the plain methods only, as somebody may have one."""

    look_every = 0.01

    def __init__(self) -> None:
        self.known: dict[str, bool] = {}

    def register_run(self, run_id: str) -> None:
        self.known.setdefault(run_id, False)

    def cancel_run(self, run_id: str) -> bool:
        there = run_id in self.known
        self.known[run_id] = True
        return there

    def is_cancelled(self, run_id: str) -> bool:
        return self.known.get(run_id, False)

    def cleanup_run(self, run_id: str) -> None:
        self.known.pop(run_id, None)

    def get_active_runs(self) -> dict[str, bool]:
        return dict(self.known)


def test_a_manager_of_ones_own() -> None:
    """Plain methods are enough: the manager is looked at while runs live, and a run that it stops ends cancelled."""
    board = Noticeboard()
    set_cancellation_manager(board)
    try:
        assert get_cancellation_manager() is board
        gate = Gate("never opened")
        events = Workflow("W", steps=[lambda given: gate.wait_blocking()]).run("x", run_id="own", stream=True)
        next(iter(events))
        gate.wait_reached(timeout=WAIT)
        assert board.cancel_run("own") is True
        assert [event.event for event in events][-1] == "WorkflowCancelled"
    finally:
        set_cancellation_manager(None)
    assert isinstance(get_cancellation_manager(), InMemoryRunCancellationManager)


def test_refused() -> None:
    """What isn't a manager or a client is refused by name."""
    with pytest.raises(ConfigurationError, match="BaseRunCancellationManager"):
        set_cancellation_manager("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
        RedisRunCancellationManager("redis://localhost")
