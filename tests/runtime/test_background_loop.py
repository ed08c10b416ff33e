"""The home loop: forked children, the interpreter's exit, and the sync face where it would block itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from desist.cancel.registry import registry
from desist.runtime.background_loop import background_loop
from desist.workflow import Step, Workflow


def run(program: str, *, timeout: float = 30) -> tuple[str, float]:
    """Run a program; return what it printed and how long it took."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, time.monotonic() - began


FORK = """
import os, signal, sys, threading
from desist.workflow import Step, Workflow
from desist.cancel.registry import registry
inside = threading.Event()
def wait(given, cancel_token):
    inside.set()
    cancel_token.wait()
hanging = Workflow(steps=[Step("wait", executor=wait)])
quick = Workflow(steps=[Step("quick", executor=lambda given: "done")])
assert quick.run("go").content == "done"
reader = hanging.run("go", stream=True)
inside.wait(10)
child = os.fork()
if child == 0:
    signal.alarm(15)
    assert not registry.live(), "the parent's runs aren't here"
    assert quick.run("go").content == "done"
    other = hanging.run("go", stream=True)
    receipt = hanging.cancel(other.run_id)
    assert receipt and receipt.wait(5) and receipt.status == "CANCELLED"
    print("child", [event.event for event in other][-1], flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
receipt = hanging.cancel(reader.run_id)
assert receipt.wait(5)
print("parent", receipt.status.value, receipt.abandoned)
"""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_run_workflows() -> None:
    """With a loop, a timer thread and workers of its own; the parent's run lives on in the parent only."""
    told, _ = run(FORK)
    assert told.split("\n")[:2] == ["child WorkflowCancelled", "parent CANCELLED []"]


EXIT = """
import threading
from desist.workflow import Step, Workflow
inside = threading.Event()
def work(given, cancel_token):
    inside.set()
    try:
        {body}
    finally:
        print("cleaned up", flush=True)
reader = Workflow(steps=[Step("work", executor=work)]).run("go", stream=True)
inside.wait(10)
"""


def test_the_exit_cancels_what_still_runs() -> None:
    """Its cleanup runs, and the program ends."""
    told, seconds = run(EXIT.format(body="cancel_token.sleep(3600)"))
    assert told.strip() == "cleaned up" and seconds < 15


def test_the_exit_does_not_wait_for_what_cannot_be_stopped() -> None:
    """A thread that is stuck in a lock is abandoned after its grace."""
    told, seconds = run(EXIT.format(body="lock = threading.Lock(); lock.acquire(); lock.acquire()"))
    assert "cleaned up" not in told and seconds < 15


def test_the_sync_face_is_refused_on_the_home_loop() -> None:
    """It would wait for itself: the error says to await `arun()`, and nothing was registered."""
    inner = Workflow(steps=[Step("inner", executor=lambda given: "inner")])

    async def main() -> str:
        with pytest.raises(RuntimeError, match=r"arun\(\)"):
            inner.run("go")
        assert not registry.live()
        return str((await inner.arun("go")).content)

    assert asyncio.run_coroutine_threadsafe(main(), background_loop.loop()).result(10) == "inner"


def test_the_home_loop_starts_once() -> None:
    """Asked by many threads at once, it is one loop."""

    async def ask() -> set[int]:
        loops = await asyncio.gather(*(asyncio.to_thread(background_loop.loop) for _ in range(8)))
        return {id(loop) for loop in loops}

    assert len(asyncio.run(ask())) == 1
