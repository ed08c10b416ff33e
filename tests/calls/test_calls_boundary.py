"""The asynchronous exception at the edge of user code: thousands of races, nothing lost, nothing locked, no dead pool.

Each race starts a call in a worker thread and interrupts it after a random number of steps of another thread.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from calls_scenario import LateEnds, Scene
from hanging_server import PATIENCE

from desist.calls.base import InterruptMode
from desist.calls.thread_call import ThreadCall
from desist.calls.thread_pool import _threads, run_call, run_in_thread
from desist.cancel import CancelToken, RunCancelled, check_cancelled, current_token, use_token

RACES = 5000
CANARY = 100  #: races between two looks at whether the pool still works


class Canceller:
    """A thread that stops what it is given, a little later."""

    def __init__(self) -> None:
        self._inbox = queue.SimpleQueue[ThreadCall | None]()
        self._random = random.Random(7)
        self._thread = threading.Thread(target=self._serve, name="canceller")
        self._thread.start()

    def stop(self, work: ThreadCall | None) -> None:
        self._inbox.put(work)

    def _serve(self) -> None:
        while (work := self._inbox.get()) is not None:
            for _ in range(self._random.randrange(2000)):
                pass
            work.token.cancel()
            work.interrupt(PATIENCE)

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join(PATIENCE)


@pytest.fixture
def canceller() -> Iterator[Canceller]:
    canceller = Canceller()
    yield canceller
    canceller.close()


async def race(call: Callable[[], Any], canceller: Canceller) -> str:
    """Do the call and interrupt it; return how it ended."""
    token = CancelToken()
    with use_token(token):
        work = ThreadCall(call, "race", None, token, "auto")

    def begin(work: ThreadCall) -> None:
        _threads.submit(work)
        canceller.stop(work)

    try:
        return str(await run_call(work, begin))
    except RunCancelled:
        return "cancelled"


def races(call: Callable[[], Any], canceller: Canceller, after: Callable[[], None] = lambda: None) -> Counter[str]:
    """Run all races, with a canary among them; return how many ended how."""
    ends: Counter[str] = Counter()

    async def main() -> None:
        for number in range(RACES):
            ends[await race(call, canceller)] += 1
            after()
            if number % CANARY == 0:
                assert await run_in_thread(lambda: "sings", name="canary") == "sings"

    with asyncio.Runner() as runner:
        runner.run(_bounded(main()))
    assert sum(ends.values()) == RACES
    return ends


async def _bounded(work: Any) -> None:
    async with asyncio.timeout(50):
        await work


def spin(rounds: int = 300) -> str:
    for _ in range(rounds):
        pass
    return "returned"


def test_returning(canceller: Canceller) -> None:
    """A call that returns just then has returned or was cancelled; never both, never neither."""
    ends = races(spin, canceller)
    assert set(ends) == {"returned", "cancelled"}, ends


def test_raising(canceller: Canceller) -> None:
    """A call that raises just then has raised its own error or was cancelled."""

    def fail() -> str:
        try:
            spin()
            raise ValueError("its own")
        except ValueError:
            return "failed"

    assert set(races(fail, canceller)) == {"failed", "cancelled"}


def test_waiting_in_the_token(canceller: Canceller) -> None:
    """A call that waits in its token a little while is woken by it, or goes on; it is never lost in between."""

    def wait() -> str:
        return "told" if current_token().wait(0.0001) else spin()

    assert set(races(wait, canceller)) <= {"told", "returned", "cancelled"}


def test_checking_the_token(canceller: Canceller) -> None:
    """A call that asks the token and loops ends always."""

    def ask() -> None:
        while True:
            check_cancelled()

    assert races(ask, canceller) == {"cancelled": RACES}


def test_using_queues(canceller: Canceller) -> None:
    """A call that uses queues and conditions of its own is left; the pool, which uses some too, works on."""

    def pass_on() -> str:
        items = queue.Queue[int]()
        condition = threading.Condition()
        for number in range(20):
            items.put(number)
            with condition:
                condition.notify_all()
            items.get()
        return "returned"

    assert set(races(pass_on, canceller)) == {"returned", "cancelled"}


def test_plain_locks_are_given_back(canceller: Canceller) -> None:
    """A lock taken by `with lock:` is free after every interrupt, nested or not."""
    outer, inner, left = threading.Lock(), threading.Lock(), []

    def nested() -> str:
        for _ in range(50):
            with outer, inner:
                pass
        return "returned"

    def look() -> None:
        for lock in (outer, inner):
            if lock.locked():
                left.append(lock)
                lock.release()

    assert set(races(nested, canceller, look)) == {"returned", "cancelled"}
    assert left == []


def test_imports_go_on(canceller: Canceller) -> None:
    """A call that is in the middle of an import: the import lock is given back, and all threads can import."""

    def bring_in() -> str:
        for _ in range(3):
            sys.modules.pop("colorsys", None)
            importlib.import_module("colorsys")
        return "returned"

    def import_here() -> None:
        sys.modules.pop("colorsys", None)
        importlib.import_module("colorsys")

    assert set(races(bring_in, canceller, import_here)) == {"returned", "cancelled"}


LOOK_AND_SEND = """
import sys, threading
from desist.calls.async_exception_safety import raise_in_thread
from desist.runtime.stack_sampling import sample_stack
told, ready, done = [], threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), done.wait()), daemon=True)
thread.start()
ready.wait()
raise_in_thread(thread.ident, SystemExit)  # what is remembered is known from now on
sys.addaudithook(lambda event, _: told.append(event))
raise_in_thread(thread.ident, SystemExit)
told.append("looking")
names = [code.co_name for code, line in sample_stack(thread.ident)]
assert names[0] == "wait" and names[-1] == "_bootstrap" and sample_stack(0) == [], names
print(*told)
done.set()
"""


def test_nothing_runs_in_the_middle_of_a_look() -> None:
    """No audit hook is asked after the look at the frames: it is Python code, and the thread could go on meanwhile.

    Then an interrupt would land in code that wasn't looked at, and a frame would be read that is gone.
    """
    look = "sys._current_frames"
    done = subprocess.run([sys.executable, "-c", LOOK_AND_SEND], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.strip()) == (0, f"{look} looking {look} {look}"), done


def test_logging_goes_on(canceller: Canceller) -> None:
    """A call that is logging: the handler's lock is given back, and all threads can log."""
    logger, heard = logging.Logger("of a tool"), io.StringIO()
    logger.addHandler(logging.StreamHandler(heard))

    def speak() -> str:
        for number in range(3):
            logger.warning("line %s", number)
        return "returned"

    assert set(races(speak, canceller, lambda: logger.warning("here"))) == {"returned", "cancelled"}
    assert heard.getvalue().count("here") == RACES


def test_an_interrupt_never_leaves_user_code(canceller: Canceller) -> None:
    """What a worker's thread does after the call - hand over the result, wait for work - is never interrupted."""
    seen: list[Any] = []
    before, threading.excepthook = threading.excepthook, seen.append
    try:
        for rounds in (0, 1, 10):
            races(lambda rounds=rounds: spin(rounds), canceller)
    finally:
        threading.excepthook = before
    assert seen == []


# -- how a call may be interrupted, as its tool or step says


def test_cooperative() -> None:
    """interrupt="cooperative": no exception falls on it; it stops where it asks its token."""
    torn: list[str] = []
    asked = threading.Event()

    def work() -> None:
        try:
            while not current_token().cancelled:
                pass
            spin(200_000)  # would be torn here
        except RunCancelled:
            torn.append("torn")
            raise
        asked.set()
        check_cancelled()

    for place in ("step", "tool"):
        asked.clear()
        scene = Scene(work, place=place, interrupt="cooperative").start()
        receipt = scene.stop()
        assert receipt.abandoned == [] and isinstance(scene.raised, RunCancelled)
        assert asked.is_set() and torn == []


@pytest.mark.parametrize("place", ["step", "tool"])
def test_never(place: Any) -> None:
    """interrupt="never": the run waits for it, past its grace; nothing starts meanwhile, and its result is dropped."""
    go_on = threading.Event()
    scene = Scene(lambda: go_on.wait(PATIENCE), place=place, grace=0.01, interrupt="never").start()
    receipt = scene.cancel()
    assert not receipt.wait(0.1)
    assert receipt.status.value == "CANCELLING"
    go_on.set()
    scene.settle(receipt)
    assert receipt.abandoned == [] and scene.raised is None
    assert scene.output.cancel.settled_at - scene.output.cancel.requested_at >= 0.1


@pytest.mark.parametrize("interrupt", ["never", "cooperative"])
def test_force_ends_the_waiting(interrupt: InterruptMode, late_ends: LateEnds) -> None:
    """A forced cancel doesn't wait for a call that may not be interrupted: it is named."""
    go_on = threading.Event()
    scene = Scene(lambda: go_on.wait(PATIENCE), interrupt=interrupt).start()
    receipt = scene.cancel()
    scene.cancel(force=True)
    scene.settle(receipt)
    assert [left.kind for left in receipt.abandoned] == ["thread"]
    go_on.set()
    late_ends.wait()


def test_a_second_exception_at_three_quarters() -> None:
    """A `finally` isn't disturbed for three quarters of the grace; then the exception comes again."""
    times: list[float] = []

    def work() -> None:
        import time

        try:
            while True:
                time.sleep(0.001)
        finally:
            try:
                while True:
                    time.sleep(0.001)
            finally:
                times.append(time.time())

    scene = Scene(work, grace=2.0).start()
    receipt = scene.stop()
    assert receipt.abandoned == [] and isinstance(scene.raised, RunCancelled)
    [again] = times
    assert again - (receipt.requested_at or 0) >= 1.49
