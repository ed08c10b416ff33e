"""Gates release every kind of waiter, a cancel ends a wait at once, and leaks are found and named."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from desist.cancel.token import CancelToken, use_token
from desist.exceptions import RunCancelled
from desist.testing import Gate, assert_no_leaks, census


def test_a_gate_opens_for_loops_and_threads_and_stays_open() -> None:
    """Waiters on two loops and in a thread are released, and later ones don't wait."""
    gate = Gate()
    threads = [threading.Thread(target=lambda: asyncio.run(gate.wait())) for _ in range(2)]
    threads.append(threading.Thread(target=gate.wait_blocking))
    for thread in threads:
        thread.start()
    gate.wait_reached(3)
    gate.open()
    for thread in threads:
        thread.join()
    gate.wait_blocking()
    asyncio.run(gate.wait())
    assert (gate.reached, gate.is_open) == (5, True)


def test_a_cancel_ends_a_blocking_wait() -> None:
    """A sync tool at a shut gate raises RunCancelled when its token is cancelled."""
    gate, token, seen = Gate(), CancelToken(), list[BaseException]()

    def tool() -> None:
        with use_token(token):
            try:
                gate.wait_blocking()
            except RunCancelled as error:
                seen.append(error)

    thread = threading.Thread(target=tool)
    thread.start()
    gate.wait_reached()
    token.cancel()
    thread.join()
    assert len(seen) == 1
    assert not gate.is_open


def test_a_cancelled_async_wait_is_forgotten() -> None:
    """A task that is cancelled at a gate is removed.

    Opening later has no effect on it, also after its loop was closed.
    """
    gate = Gate()

    async def main() -> None:
        task = asyncio.create_task(gate.wait())
        await asyncio.to_thread(gate.wait_reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gate.open()


def test_waits_have_an_end_and_blocking_is_refused_on_a_loop() -> None:
    """Timeouts name the gate; wait_blocking on a loop says what to use instead."""
    gate = Gate("tool")
    with pytest.raises(TimeoutError, match="'tool'"):
        gate.wait_reached(timeout=0.01)
    with pytest.raises(TimeoutError, match="not opened"):
        gate.wait_blocking(timeout=0.01)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="would block this event loop"):
            gate.wait_blocking()

    asyncio.run(main())


LEAKS = """
import asyncio, socket, subprocess, sys, threading
from desist.testing import Gate, assert_no_leaks
gate, loop, made = Gate(), asyncio.new_event_loop(), []
thread = threading.Thread(target=gate.wait_blocking, args=(60.0,), name="leaky", daemon=True)
try:
    with assert_no_leaks(settle=0.01):
        thread.start()
        made.append(socket.socket())
        task = loop.create_task(gate.wait(), name="leaky task")
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
except AssertionError as caught:
    words = ("threads:", "leaky", "fds:", "sockets:", "tasks:", "leaky task", "children:", "input()")
    print([word for word in words if word not in str(caught)])
child.kill()
child.communicate()
made[0].close()
gate.open()
loop.run_until_complete(task)
loop.close()
"""


def test_every_kind_of_leak_is_found_and_named() -> None:
    """A leaked thread, socket, task and child process are each named in the error.

    In a process of its own: here, threads of earlier tests may end meanwhile and compensate for the leaked ones.
    """
    done = subprocess.run([sys.executable, "-c", LEAKS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_what_goes_in_time_or_is_allowed_is_no_leak() -> None:
    """Resources that are released in time, ending tasks and allowed resources are no leaks."""
    gate = Gate()
    thread = threading.Thread(target=gate.wait_blocking)

    async def main() -> None:
        async with assert_no_leaks():
            task = asyncio.create_task(asyncio.sleep(0.03))
        assert task.done()

    asyncio.run(main())
    with assert_no_leaks(threads=1, settle=0.0):
        thread.start()
    gate.open()
    thread.join()
    with pytest.raises(ZeroDivisionError), assert_no_leaks():
        raise ZeroDivisionError
    assert census().threads >= 1
