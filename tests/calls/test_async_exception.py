"""Waking loops from threads, and guarded exceptions: what they leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from desist.runtime.loop_waker import LoopWaker, waker_for

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
