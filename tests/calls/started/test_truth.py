"""What can't be stopped is named, and listed until it ends; what isn't the call's any more is left alone."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from calls_scenario import LateEnds
from hanging_server import PATIENCE
from started_scenario import Place, Props, Run, Way, wait_until

from desist import Step, Workflow, quarantine
from desist.cancel import RunCancelled
from desist.testing import Gate

everywhere = pytest.mark.parametrize(
    ("place", "way"), [("step", "run"), ("tool", "run"), ("step", "arun"), ("tool", "parallel arun")]
)
SHORT = 0.05


class Deaf:
    """Work that nothing interrupts, until it is let go of."""

    def __init__(self) -> None:
        self.items, self.lock = queue.SimpleQueue[int](), threading.Lock()
        self.entered = threading.Semaphore(0)
        self.waiting = 0
        self.lock.acquire()

    def get(self) -> None:
        self.waiting += 1
        self.entered.release()
        self.items.get()

    def take(self) -> None:
        self.entered.release()
        with self.lock:
            pass

    def nap(self) -> None:
        self.entered.release()
        time.sleep(1.5)

    def hash(self) -> None:
        self.entered.release()
        hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 2_000_000)

    def wait_entered(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE)

    def let_go(self) -> None:
        for _ in range(self.waiting):
            self.items.put(1)
        if self.lock.locked():
            self.lock.release()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    deaf = Deaf()
    yield deaf
    deaf.let_go()
    wait_until(lambda: quarantine() == [], "abandoned work is listed for ever")


def in_quarantine(run: Run) -> list[Any]:
    """Return what is listed, without the task of the run itself, which may be on its last steps."""
    return [info for info in quarantine() if info.root_run_id == run.run_id and info.name not in ("workflow", "agent")]


@everywhere
@pytest.mark.parametrize("way_to_wait", ["get", "take", "nap", "hash"])
def test_threads_are_named(
    way_to_wait: str, place: Place, way: Way, deaf: Deaf, late_ends: LateEnds, caplog: pytest.LogCaptureFixture
) -> None:
    """E3, E4: each inner thread is named, with where it is blocked and whose it is, and listed until it ends."""

    def work() -> None:
        threads = [threading.Thread(target=getattr(deaf, way_to_wait), name=f"inner {n}") for n in range(2)]
        for thread in threads:
            thread.start()
        while True:
            time.sleep(0.001)

    run = Run(work, place=place, way=way, grace=SHORT).start()
    deaf.wait_entered(2)
    receipt = run.stop()
    assert sorted(left.name for left in receipt.abandoned) == ["inner 0", "inner 1"]
    for left in receipt.abandoned:
        assert (left.kind, left.call) == ("thread", "work") and left.since
        assert f"in {way_to_wait}" in (left.blocked_in or "")
        if way_to_wait != "hash":  # that runs
            assert left.waits_for == {"nap": "clock_nanosleep: a sleep"}.get(way_to_wait, "futex: a lock")
    run.wait_over()
    found = in_quarantine(run)
    assert sorted(info.name for info in found) == ["inner 0", "inner 1"], found
    deaf.let_go()
    wait_until(lambda: in_quarantine(run) == [], "ended work is still listed")
    for n in range(2):
        wait_until(lambda n=n: f"abandoned thread 'inner {n}' of 'work' ended" in caplog.text, "the end isn't logged")  # type: ignore[misc]


@everywhere
def test_jobs_are_named(place: Place, way: Way, deaf: Deaf) -> None:
    """E2, E3: jobs of a pool that is older than the call are named; those that wait for a thread don't start."""
    pool, ran, submitted = ThreadPoolExecutor(2), [], threading.Event()

    def work() -> None:
        futures = [pool.submit(deaf.get) for _ in range(2)]
        futures += [pool.submit(ran.append, n) for n in range(3)]
        submitted.set()  # a job that is submitted during a cancel may be named, while it waits
        while True:
            time.sleep(0.001)

    run = Run(work, place=place, way=way, grace=SHORT).start()
    deaf.wait_entered(2)
    assert submitted.wait(PATIENCE)
    receipt = run.stop()
    assert [(left.kind, left.name, left.call) for left in receipt.abandoned] == [("thread", "Deaf.get", "work")] * 2
    deaf.let_go()
    assert pool.submit(lambda: "fine").result(PATIENCE) == "fine", "the pool goes on for other code"
    assert ran == []
    pool.shutdown()
    run.wait_over()


@pytest.mark.parametrize(("place", "way"), [("step", "run"), ("tool", "run"), ("step", "arun"), ("tool", "arun")])
def test_to_thread_is_named(place: Place, way: Way, deaf: Deaf) -> None:
    """E2: a thread of async code that can't be stopped is named, although its task is gone."""

    async def work() -> None:
        await asyncio.to_thread(deaf.get)

    run = Run(work, place=place, way=way, grace=SHORT).start()
    deaf.wait_entered(1)
    receipt = run.stop()
    [left] = receipt.abandoned
    assert (left.kind, left.name) == ("thread", "Deaf.get")
    assert [info.name for info in in_quarantine(run)] == ["Deaf.get"]
    deaf.let_go()
    wait_until(lambda: in_quarantine(run) == [], "ended work is still listed")
    run.wait_over()


_gates: list[Any] = []


def wait_at_gate() -> None:
    """Say in another process that it is in, and wait there."""
    entered, gate = _gates
    entered.set()
    gate.wait(PATIENCE)


def test_a_job_in_a_process_pool_of_others() -> None:
    """E5: a job that runs in a worker of a pool that is older than the call is named; the worker isn't killed."""
    context = multiprocessing.get_context("fork")
    entered, gate = gates = [context.Event(), context.Event()]
    with ProcessPoolExecutor(1, mp_context=context, initializer=_gates.extend, initargs=(gates,)) as pool:
        worker = pool.submit(os.getpid).result(PATIENCE)
        run = Run(lambda: pool.submit(wait_at_gate).result(), grace=SHORT).start()
        assert entered.wait(PATIENCE)
        receipt = run.stop()
        [left] = receipt.abandoned
        assert (left.kind, left.name, left.call) == ("process", "wait_at_gate", "work")
        assert [info.name for info in in_quarantine(run)] == ["wait_at_gate"]
        gate.set()
        wait_until(lambda: in_quarantine(run) == [], "ended work is still listed")
        assert pool.submit(os.getpid).result(PATIENCE) == worker
        run.wait_over()


# -- after abandonment


@everywhere
@pytest.mark.parametrize("start", ["thread", "job", "child", "process"])
def test_abandoned_code_starts_nothing_new(start: str, place: Place, way: Way, deaf: Deaf, props: Props) -> None:
    """Code that goes on after it was given up can start no thread, job or child: it is refused with RunCancelled."""
    refused: list[Any] = []
    over, pool = threading.Event(), ThreadPoolExecutor(1)
    starts: dict[str, Callable[[], Any]] = {
        "thread": lambda: threading.Thread(target=props.heart.beat).start(),
        "job": lambda: pool.submit(props.heart.beat),
        "child": lambda: subprocess.Popen(["sleep", "300"], env=props.environ),
        "process": lambda: multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,)).start(),
    }

    def work() -> None:
        try:
            deaf.get()
        except RunCancelled:
            pass
        for _ in range(2):
            try:
                starts[start]()
                refused.append("started")
            except RunCancelled as error:
                refused.append(error)
        over.set()

    run = Run(work, place=place, way=way, grace=SHORT).start()
    deaf.wait_entered(1)
    assert len(run.stop().abandoned) == 1
    deaf.let_go()
    assert over.wait(PATIENCE)
    assert [type(error) for error in refused] == [RunCancelled] * 2, refused
    props.heart.check_still()
    assert props.processes() == []
    pool.shutdown()
    run.wait_over()


# -- what a finished call has left


def test_what_a_finished_call_left_is_not_touched(props: Props) -> None:
    """A warm pool, a daemon thread, a task and a child that a finished call left outlive a cancel of a later step."""
    warm: list[Any] = []

    async def leave(_: Any) -> None:
        warm.append(ThreadPoolExecutor(2))
        warm.append(warm[0].submit(props.heart.beat))
        threading.Thread(target=props.heart.beat, name="left", daemon=True).start()
        warm.append(asyncio.create_task(props.heart.beat_in_task()))
        warm.append(subprocess.Popen(["sleep", "300"], env=props.environ))  # noqa: ASYNC220
        await asyncio.to_thread(props.heart.wait_entered, 2)

    gate = Gate()

    async def wait(_: Any) -> None:
        await gate.wait()

    workflow = Workflow("Two", steps=[Step("leave", executor=leave), Step("wait", executor=wait)])
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    props.heart.wait_entered(1)
    receipt = workflow.cancel(reader.run_id)
    assert receipt.wait(PATIENCE) and receipt.abandoned == []
    for _event in reader:
        pass
    assert len(props.heart.inside) == 3
    assert [process.pid for process in props.processes()] == [warm[3].pid]
    beats = props.heart.beats
    wait_until(lambda: props.heart.beats > beats + 10, "what was left has stopped")
    warm[2].get_loop().call_soon_threadsafe(warm[2].cancel)
    warm[3].kill()
    warm[3].wait()
    props.heart.stop()
    warm[0].shutdown()


def test_another_call_on_the_same_pool_is_not_touched(props: Props) -> None:
    """Jobs of a run that isn't cancelled go on in the threads of a pool that it shares with a cancelled run."""
    pool, other = ThreadPoolExecutor(4), Props()
    runs = [Run(lambda p=p: pool.submit(p.heart.beat).result()).start() for p in (props, other)]  # type: ignore[misc]
    props.heart.wait_entered(1)
    other.heart.wait_entered(1)
    assert runs[0].stop().abandoned == []
    props.heart.check_still()
    beats = other.heart.beats
    wait_until(lambda: other.heart.beats > beats + 10, "the other run's job has stopped")
    assert runs[1].stop().abandoned == []
    other.heart.check_still()
    other.close()
    pool.shutdown()
