"""The exit of the interpreter doesn't wait for abandoned threads, on each version of Python that is here."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from python_versions import PYTHONS

import desist

SOURCE = Path(desist.__file__).parent.parent

PROGRAM = """
import atexit, concurrent.futures, os, sys, threading, time
from desist.runtime.exit_detach import attach_to_exit, attach_to_pool, detach_from_exit, detach_from_pool, watch_exit

stuck = threading.Event()

def sleep():
    stuck.set()
    time.sleep(3600)

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    stuck.wait()
    stuck.clear()
    return thread

def in_pool(work):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pools.append(pool)
    pool.submit(work)
    stuck.wait()
    stuck.clear()
    return next(t for t in threading.enumerate() if t.name.startswith("ThreadPool") and t not in seen)

def at_the_exit(work):
    "Call work() in a daemon thread once the main thread waits for the others, or is about to."
    def wait():
        while not threading._SHUTTING_DOWN:
            time.sleep(0.001)
        work()
    threading.Thread(target=wait, daemon=True).start()

def work_on():
    stuck.set()
    while not threading._SHUTTING_DOWN:
        time.sleep(0.001)
    os.write(1, b"worked to its end\\n")

pools, seen = [], set()
atexit.register(lambda: print("exit handler"))
"""


def run(python: str, body: str) -> tuple[int, list[str]]:
    """Run a program to its end; return its exit code and the lines that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [python, "-c", PROGRAM + textwrap.dedent(body)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, env=environment)
    assert done.stderr == ""
    return done.returncode, done.stdout.split("\n")[:-1]


@pytest.fixture(params=PYTHONS, ids=lambda python: python or sys.executable)
def python(request: pytest.FixtureRequest) -> str:
    """Each version of Python that is here."""
    return request.param


@pytest.mark.parametrize("where", ["in_thread", "in_pool"])
def test_the_exit_does_not_wait(python: str, where: str) -> None:
    """A detached thread that sleeps ends with the process; exit code, exit handlers and buffered output are kept."""
    code, lines = run(
        python,
        f"""
        detach_from_exit({where}(sleep))
        print("buffered")
        sys.exit(3)
        """,
    )
    assert (code, lines) == (3, ["buffered", "exit handler"])


@pytest.mark.parametrize("where", ["in_thread", "in_pool"])
def test_a_thread_that_is_detached_while_the_exit_waits_for_it(python: str, where: str) -> None:
    """A cancel may still be in its grace when the program ends: the exit stops waiting when the thread is abandoned."""
    code, lines = run(
        python,
        f"""
        watch_exit()
        thread = {where}(sleep)
        at_the_exit(lambda: detach_from_exit(thread))
        """,
    )
    assert (code, lines) == (0, ["exit handler"])


@pytest.mark.parametrize("where", ["in_thread", "in_pool"])
def test_other_threads_are_waited_for(python: str, where: str) -> None:
    """Only detached threads are left: the work of all others ends before the exit handlers run, as Python promises."""
    code, lines = run(
        python,
        f"""
        thread = {where}(sleep)
        seen.add(thread)
        {where}(work_on)
        detach_from_exit(thread)
        """,
    )
    assert (code, lines) == (0, ["worked to its end", "exit handler"])


@pytest.mark.parametrize("where", ["in_thread", "in_pool"])
def test_a_thread_that_goes_on_is_waited_for_again(python: str, where: str) -> None:
    """A pool's thread whose abandoned job has ended is an ordinary thread again."""
    code, lines = run(
        python,
        f"""
        thread = {where}(work_on)
        detach_from_exit(thread)
        attach_to_exit(thread)
        """,
    )
    assert (code, lines) == (0, ["worked to its end", "exit handler"])


def test_the_default_pool_of_a_loop(python: str) -> None:
    """`asyncio.run` returns, and then the program ends, although a thread of `asyncio.to_thread` is stuck."""
    code, lines = run(
        python,
        """
        import asyncio
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
            task = asyncio.create_task(asyncio.to_thread(sleep))
            await asyncio.sleep(0)
            stuck.wait()
            thread = next(t for t in threading.enumerate() if t.name.startswith("ThreadPool"))
            detach_from_exit(thread)
            detach_from_pool(thread, loop._default_executor)
            task.cancel()
            print(await asyncio.to_thread(lambda: "another thread does the next job"))
        asyncio.run(main())
        """,
    )
    assert (code, lines) == (0, ["another thread does the next job", "exit handler"])


def test_a_thread_that_returns_to_its_pool(python: str) -> None:
    """The pool waits for it again, when the pool is shut down. A pool that is being shut down is left alone."""
    code, lines = run(
        python,
        """
        gate = threading.Event()
        def work():
            stuck.set()
            gate.wait()
            print("worked to its end")
        thread = in_pool(work)
        (pool,) = pools
        detach_from_pool(thread, pool)
        attach_to_pool(thread, pool)
        threading.Timer(0.01, gate.set).start()
        pool.shutdown()
        print("shut down")
        detach_from_pool(thread, pool)
        attach_to_pool(thread, pool)
        """,
    )
    assert (code, lines) == (0, ["worked to its end", "shut down", "exit handler"])


def test_a_detached_thread_is_alive_until_the_exit(python: str) -> None:
    """Nothing changes for code that joins or asks a detached thread while the program runs; a late end is no error."""
    code, lines = run(
        python,
        """
        gate = threading.Event()
        def wait():
            stuck.set()
            gate.wait()
        thread = in_thread(wait)
        detach_from_exit(thread)
        detach_from_exit(thread)
        thread.join(0.01)
        print(thread.is_alive())
        gate.set()
        thread.join()
        print(thread.is_alive())
        detach_from_exit(thread)
        """,
    )
    assert (code, lines) == (0, ["True", "False", "exit handler"])


def test_a_forked_child(python: str) -> None:
    """A child of a program with detached threads can detach its own; each ends as usual."""
    code, lines = run(
        python,
        """
        import warnings
        warnings.simplefilter("ignore")
        detach_from_exit(in_thread(sleep))
        child = os.fork()
        if child == 0:
            detach_from_exit(in_thread(sleep))
            sys.exit(4)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    )
    assert (code, lines) == (0, ["exit handler", "4", "exit handler"])


def test_a_version_without_the_private_names(python: str) -> None:
    """On another version of Python the exit waits for the thread, and nothing breaks."""
    code, lines = run(
        python,
        """
        import concurrent.futures.thread
        thread = in_thread(work_on)
        del threading._register_atexit
        detach_from_exit(thread)
        """,
    )
    assert (code, lines) == (0, ["worked to its end", "exit handler"])
