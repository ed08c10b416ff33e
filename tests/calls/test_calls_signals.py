"""Ctrl-C, SIGTERM, notebooks, forks and the garbage collector, each in a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest
from hanging_server import PATIENCE

PROGRAM = """
import asyncio, atexit, gc, os, sys, threading, time, warnings
from desist import Agent, Step, Workflow, cancel_run
from desist.cancel.registry import registry
from desist.cancel.signals import drain_on_sigterm
from desist.testing import Gate, ScriptedModel

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

class Said(Gate):
    def _arrive(self, wake):
        arrived = super()._arrive(wake)
        say("READY")
        return arrived

gate = Said()
wf = Workflow("w", steps=[Agent(ScriptedModel([["a ", gate, "b"]], repeat=True), name="A"), lambda g: say("NEVER")])

def show():
    until = time.monotonic() + 20
    while not wf.get_run("r").status.is_final and time.monotonic() < until:  # a dropped reader is missed after 10 ms
        time.sleep(0.001)
    output = wf.get_run("r")
    say("END", output.status.value, output.cancel.source.value if output.cancel else None, repr(output.content))

"""


class Program:
    """A program, what it says line by line, and how it ends."""

    def __init__(self, body: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + textwrap.dedent(body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.said = ""

    def wait_said(self, word: str) -> Program:
        assert self.process.stdout is not None
        while word not in self.said:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.said
            heard = os.read(self.process.stdout.fileno(), 4096)
            assert heard, (self.said, self.process.communicate())
            self.said += heard.decode()
        return self

    def signal(self, number: int) -> Program:
        self.process.send_signal(number)
        return self

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code as a shell tells it, and what it said on stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said += out.decode()
        code = self.process.returncode
        return (128 - code if code < 0 else code), err.decode()


@pytest.fixture
def program() -> Iterator[Callable[[str], Program]]:
    made: list[Program] = []

    def start(body: str) -> Program:
        made.append(Program(body))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


WAYS = {
    "sync": """
        try:
            for event in wf.run("x", stream=True, run_id="r"): pass
        finally: show()
    """,
    "whole": """
        try: wf.run("x", run_id="r")
        finally: show()
    """,
    "async": """
        async def main():
            async for event in wf.arun("x", stream=True, run_id="r"): pass
        try: asyncio.run(main())
        finally: show()
    """,
    "await": """
        try: asyncio.run(wf.arun("x", run_id="r"))
        finally: show()
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c(way: str, program: Callable[[str], Program]) -> None:
    """A19: one Ctrl-C: cancelled with source `interrupt`, stored with the partial text, exit code 130."""
    one = program(WAYS[way]).wait_said("READY").signal(signal.SIGINT)
    code, err = one.end()
    assert code == 130 and err.strip().endswith("KeyboardInterrupt"), err
    assert "END CANCELLED interrupt 'a '" in one.said and "NEVER" not in one.said


DRAIN = """
    atexit.register(show)
    with drain_on_sigterm():
        {body}
"""


@pytest.mark.parametrize("way", ["sync", "whole", "async", "await", "threads"])
def test_sigterm(way: str, program: Callable[[str], Program]) -> None:
    """A19: SIGTERM inside `drain_on_sigterm` cancels and stores all that runs; exit code 0."""
    bodies = {
        "sync": "for event in wf.run('x', stream=True, run_id='r'): pass",
        "whole": "wf.run('x', run_id='r')",
        "await": "asyncio.run(wf.arun('x', run_id='r'))",
        "async": "asyncio.run(main())",
        "threads": "threading.Thread(target=wf.run, args=('x',), kwargs={'run_id': 'r'}).start(); time.sleep(30)",
    }
    main = "async def main():\n    async for event in wf.arun('x', stream=True, run_id='r'): pass\n"
    one = program(main + textwrap.dedent(DRAIN).format(body=bodies[way]))
    one.wait_said("READY").signal(signal.SIGTERM)
    code, err = one.end()
    assert (code, err) == (0, "")
    assert "END CANCELLED shutdown 'a '" in one.said and "NEVER" not in one.said


def test_sigterm_with_a_blocked_loop(program: Callable[[str], Program]) -> None:
    """A19: SIGTERM while async code blocks the main thread's loop: the runs settle; a second one ends the program."""
    one = program("""
        entered = threading.Event()
        async def block(g):
            entered.set()
            for _ in range(3000): time.sleep(0.01)
        wf = Workflow("w", steps=[block])
        def tell():
            entered.wait()
            say("READY")
            registry.get("r").settled.wait()
            say("SETTLED")
        threading.Thread(target=tell, daemon=True).start()  # not in the call, which would own the thread
        atexit.register(show)
        with drain_on_sigterm():
            asyncio.run(wf.arun("x", run_id="r"))
    """)
    one.wait_said("READY").signal(signal.SIGTERM).wait_said("SETTLED").signal(signal.SIGTERM)
    code, err = one.end()
    assert code == 0, err
    assert "END CANCELLED shutdown" in one.said


def test_sigterm_without_a_drain(program: Callable[[str], Program]) -> None:
    """A library takes no signals unasked: without `drain_on_sigterm`, SIGTERM ends the process as ever."""
    one = program(WAYS["sync"]).wait_said("READY").signal(signal.SIGTERM)
    assert one.end()[0] == 128 + signal.SIGTERM


STUBBORN = """
    def stubborn(g):
        try: gate.wait_blocking(30)
        finally:
            say("CLEANING")
            threading.Event().wait(30)
    wf = Workflow("w", steps=[stubborn], grace=30)
    try: wf.run("x", run_id="r")
    finally: show()
"""


def test_ctrl_c_twice(program: Callable[[str], Program]) -> None:
    """A second Ctrl-C doesn't wait for cleanup: it forces the end."""
    one = program(STUBBORN).wait_said("READY").signal(signal.SIGINT).wait_said("CLEANING").signal(signal.SIGINT)
    code, err = one.end()
    assert code == 130, err
    assert "END CANCEL" in one.said


def test_a_running_loop(program: Callable[[str], Program]) -> None:
    """A notebook has a loop that runs: run() works from inside it, with sync and async steps, and can be cancelled."""
    one = program("""
        async def step(g):
            await asyncio.sleep(0)
            return "async"
        async def cell():
            say(Workflow("n", steps=[lambda g: "sync", step]).run("x").content)
            events = wf.run("x", stream=True, run_id="r")
            for event in events:
                if event.event == "RunContent":
                    say(bool(wf.cancel("r")))
            show()
            say((await Workflow("n", steps=[step]).arun("x")).content)
        asyncio.run(cell())
    """)
    code, err = one.end()
    assert (code, err) == (0, ""), one.said
    words = [line for line in one.said.splitlines() if line != "READY"]
    assert words == ["async", "True", "END CANCELLED user 'a '", "async"]


def test_fork_in_the_middle(program: Callable[[str], Program]) -> None:
    """A child forked while runs are being cancelled has none of them and can run its own; the parent goes on."""
    one = program("""
        warnings.simplefilter("ignore")
        hold = threading.Event()
        def deaf(g):
            say("DEAF")
            hold.wait(30)
        slow = Workflow("s", steps=[deaf], grace=30)
        readers = [slow.run("x", stream=True, run_id=f"s{k}") for k in range(4)]
        time.sleep(0.05)
        receipts = [slow.cancel(f"s{k}") for k in range(4)]
        child = os.fork()
        if child == 0:
            assert not cancel_run("s0")
            events = wf.run("x", stream=True, run_id="r")
            gate.wait_reached()
            assert wf.cancel("r").wait(10)
            show()
            os._exit(0)
        say("CHILD", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        hold.set()
        say("PARENT", all(receipt.wait(10) for receipt in receipts), [r.status.value for r in receipts])
    """)
    code, err = one.end()
    assert (code, err) == (0, ""), one.said
    assert "END CANCELLED user 'a '" in one.said and "CHILD 0" in one.said
    assert "PARENT True ['CANCELLED', 'CANCELLED', 'CANCELLED', 'CANCELLED']" in one.said


def test_garbage(program: Callable[[str], Program]) -> None:
    """A reader that nobody holds any more is found by reference count, in a cycle by the collector: both cancel."""
    one = program("""
        class Holder: pass
        for cycle in (False, True):
            holder = Holder()
            holder.events = wf.run("x", stream=True, run_id="r")
            if cycle: holder.me = holder
            gate.wait_reached(1 + cycle)
            settled = registry.get("r").settled
            del holder
            gc.collect()
            assert settled.wait(10)
            show()
    """)
    code, err = one.end()
    assert (code, err) == (0, ""), one.said
    assert one.said.count("END CANCELLED consumer_closed") == 2, one.said
