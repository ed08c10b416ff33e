"""The timer thread: its timers come in order, can be taken back, and survive each other's mistakes."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from desist.runtime.timer_thread import TimerThread


def test_timers_come_in_the_order_of_their_times() -> None:
    """Whenever they were set; never too early."""
    timers, order, done = TimerThread(), [], threading.Event()
    now = time.monotonic()
    for delay in (0.06, 0.02, 0.04):
        timers.call_at(now + delay, lambda delay=delay: order.append((delay, time.monotonic() >= now + delay)))
    timers.call_at(now + 0.07, done.set)
    assert done.wait(10)
    assert order == [(0.02, True), (0.04, True), (0.06, True)]


def test_a_timer_that_is_taken_back_does_nothing() -> None:
    """Nor does it keep what it would have done."""
    timers, called, done = TimerThread(), [], threading.Event()

    class Thing:
        def act(self) -> None:
            called.append("act")

    thing = Thing()
    gone = weakref.ref(thing)
    timer = timers.call_at(time.monotonic() + 0.02, thing.act)
    timer.cancel()
    del thing
    timers.call_at(time.monotonic() + 0.03, done.set)
    assert done.wait(10)
    gc.collect()
    assert called == [] and gone() is None


@pytest.mark.loud
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_timer_that_fails_harms_no_other(error: type[BaseException]) -> None:
    """Whatever it raises is logged; the thread goes on."""
    timers, done = TimerThread(), threading.Event()

    def fail() -> None:
        raise error

    timers.call_soon(fail)
    timers.call_at(0.0, fail)
    timers.call_at(time.monotonic() + 0.01, done.set)
    assert done.wait(10)


def test_a_timer_that_is_over_is_forgotten() -> None:
    """The last one, too: it may hold a whole run."""
    timers, done = TimerThread(), threading.Event()

    class Thing:
        def act(self) -> None:
            done.set()

    thing = Thing()
    gone = weakref.ref(thing)
    timers.call_at(time.monotonic(), thing.act)
    del thing
    assert done.wait(10)
    until = time.monotonic() + 10
    while gone() is not None and time.monotonic() < until:
        gc.collect()
    assert gone() is None


def test_soon_needs_no_lock() -> None:
    """A finalizer may call it wherever it runs, though another thread is just starting the timer thread."""
    timers, done = TimerThread(), threading.Event()
    with timers._lock:
        timers.call_soon(done.set)
    timers.start()
    assert done.wait(10)


def test_timers_of_many_threads_all_come() -> None:
    """Four threads, two thousand timers."""
    timers, count, done = TimerThread(), [0], threading.Event()

    def tick() -> None:
        count[0] += 1
        if count[0] == 2000:
            done.set()

    def fill() -> None:
        for number in range(500):
            timers.call_at(time.monotonic() + (number % 7) / 1000, tick)

    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert done.wait(10)
