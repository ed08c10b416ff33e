"""Workflows of the workers in these tests, and the embedded worker: `python engine_program.py --concurrency 3 ...`.

`desist worker` loads the workflows from here. Either way the process says lines of JSON on standard output, such as
`{"at": RUN}` when a run has come to where it waits, and hears lines: `open RUN`, `leave`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
from typing import Any

from desist import Agent, Step, StepInput, Workflow
from desist.models.openai import OpenAIChat
from desist.run.execution.run import current_run
from desist.testing import Call, Gate, ScriptedModel

from engine_databases import open_db  # isort: skip  # a neighbour

if host := os.environ.get("DESIST_TEST_HOST"):  # to others its process is on another machine
    socket.gethostname = lambda: host

gates: dict[str, Gate] = {}
lock = threading.Lock()
left = threading.Event()
db = open_db(os.environ["DESIST_DB"])


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def run_id() -> str:
    run: Any = current_run()
    assert run is not None
    return str(run.root.run_id)


def gate(of: str) -> Gate:
    with lock:
        return gates.setdefault(of, Gate(of))


async def quick(given: StepInput) -> Any:
    say(ran=run_id(), step="quick")
    return given.input


def named(name: str, wait: bool = False) -> Step:
    """A step that says that it runs, and may wait to be let on."""

    async def work(given: StepInput, session_state: dict[str, Any]) -> str:
        say(ran=run_id(), step=name)
        session_state[name] = session_state.get("begun", 0) + 1
        if wait:
            say(at=run_id())
            try:
                await gate(run_id()).wait()
            finally:
                say(left=run_id())
        return f"{name} of {os.getpid()}"

    return Step(name, executor=work)


def undone(output: Any) -> None:
    say(undone=run_id())


async def deaf(given: StepInput) -> str:
    """It takes its time to be stopped: until it is let on."""
    say(at=run_id())
    try:
        await gate(run_id()).wait()
    finally:
        say(unwinding=run_id())
        await gate("unwound").wait()
    return "never"


url = os.environ.get("DESIST_TEST_URL")
steps = [named("one"), named("two", wait=True), named("three")]
simple = Workflow("Simple", steps=[quick], db=db)
kept = Workflow("Kept", steps=steps, db=db, on_crash="resume", on_cancel=undone, compensate=True)
marked = Workflow("Marked", steps=steps, db=db)
slow = Workflow("Slow", steps=[deaf], db=db, on_crash="resume", grace=60.0)
told = Workflow("Told", steps=[Agent(OpenAIChat("m", api_key="k", base_url=url), name="A")], db=db)


def look_up() -> str:
    """Look something up."""
    say(called="look_up")
    return "in stock"


async def order() -> str:
    """Order it, which takes until somebody says so."""
    say(called="order")
    say(at=run_id())
    await gate(run_id()).wait()
    return "ordered"


turns: list[Any] = [Call("look_up", id="a"), Call("order", id="b")] if "DESIST_TEST_FIRST" in os.environ else ["Maybe."]
agent = Agent(ScriptedModel(turns), name="Shop", tools=[look_up, order])
shop = Workflow("Shop", steps=[Step("buy", agent=agent)], db=db, on_crash="resume")


def listen() -> None:
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "open":
            gate(rest[0]).open()
        elif word == "leave":
            left.set()


threading.Thread(target=listen, daemon=True).start()


def main() -> None:
    from desist.engine import Worker

    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--drain", type=float, default=30.0)
    parser.add_argument("--limit", action="append", default=[])
    asked = parser.parse_args()
    workflows = [globals()[name] for name in asked.names]
    limits = {name: int(number) for name, number in (limit.split("=") for limit in asked.limit)}
    with Worker(workflows=workflows, db=db, concurrency=asked.concurrency, limits=limits, drain=asked.drain):
        print("desist works embedded", file=sys.stderr, flush=True)
        left.wait()


if __name__ == "__main__":
    main()
