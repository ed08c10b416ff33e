"""An event loop of the main thread wakes now and then, so that the handler of a lost signal runs."""

from __future__ import annotations

import subprocess
import sys

LOST = """
import asyncio, signal, threading
from desist import Workflow
from desist.testing import Gate

gate, handled = Gate(), threading.Event()

async def wait(given):
    await gate.wait()

def tell():
    gate.wait_reached()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.raise_signal(signal.SIGUSR1)  # in this thread: nothing ends the system call of the main thread
    assert handled.wait(30)
    gate.open()

async def main():
    signal.signal(signal.SIGUSR1, lambda *_: handled.set())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    thread = threading.Thread(target=tell)
    thread.start()
    await Workflow("W", steps=[wait]).arun("go")
    thread.join()
    print("handled")

asyncio.run(main())
"""

IDLE = """
import asyncio, time
from desist.runtime.signal_wakeup import wake_for_signals

async def main():
    loop, asked = asyncio.get_running_loop(), []
    def is_used():
        asked.append(time.monotonic())
        return len(asked) < 3
    wake_for_signals(loop, is_used)
    wake_for_signals(loop, is_used)
    await asyncio.sleep(1.2)
    assert len(asked) == 3, asked
    print("stopped")

asyncio.run(main())
"""


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or done.stderr


def test_a_handler_runs_though_the_loop_waits() -> None:
    """A signal that doesn't end the system call of the main thread is handled while a run is waited for."""
    assert _run(LOST) == "handled"


def test_the_loop_is_left_alone_when_it_is_not_used() -> None:
    """The timer ends with the last run; a second call starts no second timer."""
    assert _run(IDLE) == "stopped"
