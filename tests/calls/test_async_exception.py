"""Waking loops from threads, and guarded exceptions: what they leave behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from desist.calls.async_exception import AsyncExceptionGuard, InjectedRunCancelled
from desist.calls.async_exception_safety import raise_in_thread
from desist.exceptions import RunCancelled
from desist.runtime.loop_waker import LoopWaker, waker_for
from desist.runtime.stack_sampling import sample_stack

PATIENCE = 100.0

_TRACED = """
import sys
from desist.calls.async_exception import AsyncExceptionGuard
from desist.exceptions import RunCancelled
guard = AsyncExceptionGuard()
guard.call(lambda: None)
again = AsyncExceptionGuard()
try:
    again.call(lambda: again.interrupt())
except RunCancelled:
    pass
def traced(): return 1
sys.setprofile(lambda *_: None)
traced()
print("alive")
"""


def test_a_profiler_works_after_a_guarded_call() -> None:
    """Nothing stays pending in the interpreter: CPython 3.11 would hang at the first call under a profiler."""
    done = subprocess.run([sys.executable, "-c", _TRACED], capture_output=True, text=True, timeout=30)
    assert done.stdout == "alive\n", done.stderr


def test_callbacks_of_many_threads_all_run() -> None:
    """None is lost, whatever comes between ringing and answering."""

    async def main() -> None:
        bell, heard, done = waker_for(asyncio.get_running_loop()), [], asyncio.Event()

        def hear() -> None:
            heard.append(threading.get_ident())
            if len(heard) == 8000:
                done.set()

        threads = [threading.Thread(target=lambda: [bell.call_soon(hear) for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(30):
            await done.wait()
        for thread in threads:
            thread.join()
        assert set(heard) == {threading.get_ident()}

    asyncio.run(main())


def test_a_bell_of_a_closed_loop_is_deaf_and_goes() -> None:
    """A late call does nothing, and the descriptor is closed with the bell."""

    async def main() -> LoopWaker:
        return waker_for(asyncio.get_running_loop())

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    bell = asyncio.run(main())
    bell.call_soon(lambda: None)
    gone = weakref.ref(bell)
    del bell
    gc.collect()
    assert gone() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_loop_that_is_broken_off_loses_no_call() -> None:
    """A Ctrl-C in the middle of answering: what is left is called when the loop goes on; a ring heard twice is none."""
    called: list[str] = []
    loop = asyncio.new_event_loop()

    async def listen() -> LoopWaker:
        return waker_for(loop)

    def break_off() -> None:
        raise KeyboardInterrupt

    bell = loop.run_until_complete(listen())
    bell.call_soon(break_off)
    bell.call_soon(lambda: called.append("second"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))
    bell.call_soon(lambda: called.append("third"))
    loop.run_until_complete(asyncio.sleep(0.01))
    bell._on_wakeup()
    assert called == ["second", "third"]
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_ctrl_c_as_the_ring_is_heard_leaves_no_deaf_bell() -> None:
    """A signal whose handler raises when the ring was just taken: what waits, and what comes later, is called."""

    async def main() -> list[str]:
        bell, heard, through = waker_for(asyncio.get_running_loop()), list[str](), asyncio.Event()
        bell.call_soon(lambda: heard.append("waiting"))
        sys.setprofile(_interrupt_at("eventfd_read"))
        try:
            bell._on_wakeup()
        except KeyboardInterrupt:
            heard.append("interrupted")
        finally:
            sys.setprofile(None)
        bell.call_soon(lambda: heard.append("later"))
        bell.call_soon(through.set)
        async with asyncio.timeout(10):
            await through.wait()
        return heard

    assert asyncio.run(main()) == ["interrupted", "waiting", "later"]


def _interrupt_at(name: str) -> Callable[[FrameType, str, Any], None]:
    """Return a profiler that raises when the C function `name` returns, where a signal's handler would."""

    def profile(_: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ == name:
            raise KeyboardInterrupt

    return profile


class GuardedThread:
    """A thread that makes one guarded call, then runs code of its own in which nothing may be raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.guard = AsyncExceptionGuard()
        self.result: object = None
        self.stray: BaseException | None = None
        self._function = function
        self._left, self._last_chance = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def _run(self) -> None:
        try:
            try:
                self.result = self.guard.call(self._function)
            except BaseException as error:
                self.result = error
            for _ in range(1000):  # each jump would deliver what is still pending
                pass
            self._left.set()
            self._last_chance.wait(PATIENCE)
        except BaseException as error:
            self.stray = error
            self._left.set()

    def wait_left(self) -> None:
        """Wait until the guarded call was left and its thread runs other code."""
        assert self._left.wait(PATIENCE)

    def join(self) -> None:
        """Let the thread end."""
        self._last_chance.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_innermost(self, name: str) -> None:
        """Wait until the innermost frame of the thread is of the function `name`."""
        deadline = time.monotonic() + PATIENCE
        while not (stack := sample_stack(self.ident)) or stack[0][0].co_name != name:
            assert time.monotonic() < deadline, stack
            time.sleep(0.001)


def test_an_exception_sent_while_the_call_is_left_is_raised_inside_of_it() -> None:
    """Sent while the thread waits for the guard's lock to disarm: the call raises, and nothing is pending after it."""
    inside, leave = threading.Event(), threading.Event()

    def work() -> str:
        inside.set()
        leave.wait(PATIENCE)
        return "done"

    thread = GuardedThread(work)
    assert inside.wait(PATIENCE)
    with thread.guard._lock:  # as `interrupt` holds it
        leave.set()
        thread.wait_innermost("call")
        assert raise_in_thread(thread.ident, InjectedRunCancelled)
    thread.wait_left()
    thread.join()
    assert isinstance(thread.result, RunCancelled)
    assert thread.stray is None


def test_no_exception_is_sent_once_the_call_was_left() -> None:
    """The guard refuses, whether the call returned, raised, or was interrupted; its thread isn't disturbed."""

    def fail() -> None:
        raise ValueError("x")

    interrupted = threading.Event()

    def busy() -> None:
        interrupted.set()
        while True:
            sum(range(100))

    for work in (lambda: "done", fail, busy):
        thread = GuardedThread(work)
        if work is busy:
            assert interrupted.wait(PATIENCE)
            while not thread.guard.interrupt():
                pass
        thread.wait_left()
        assert not thread.guard.interrupt()
        thread.join()
        assert thread.stray is None


def test_a_call_that_fails_with_an_exception_pending_is_left_disarmed() -> None:
    """A C function that raises delivers nothing as it returns: the exception comes at the first chance after it.

    The call raises the exception, with the error as its context, and the guard sends no more.
    """
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets the connection
    with server, client:
        thread = GuardedThread(functools.partial(client.recv, 1))
        while not thread.guard._armed:
            time.sleep(0.001)
        assert thread.guard.interrupt()
        peer.close()
        thread.wait_left()
        assert not thread.guard.interrupt()
        thread.join()
    assert isinstance(thread.result, RunCancelled)
    assert thread.stray is None


def test_an_interrupted_guard_starts_no_call() -> None:
    """Interrupted before its call: the call raises `RunCancelled` and the function isn't called."""
    guard, called = AsyncExceptionGuard(), []
    assert not guard.interrupt()
    with pytest.raises(RunCancelled):
        guard.call(lambda: called.append(1))
    assert called == []
