"""Programs that are killed in mid-run: `python db_crash_program.py KIND PLACE SCENE`. They say READY where they wait.

What had finished is flushed first: the claim is about what is stored, not about the writer's last milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from desist import Agent, Step, Steps, Workflow, shield
from desist.db import BaseDb, JsonDb, PostgresDb, SqliteDb
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


def open_db(kind: str, place: str) -> BaseDb:
    if kind == "postgres":
        return PostgresDb(place)
    return SqliteDb(Path(place) / "runs.db") if kind == "sqlite" else JsonDb(Path(place) / "runs")


def say(word: str) -> None:
    os.write(1, (word + "\n").encode())


class Killed(Gate):
    """Where the program waits to be killed."""

    def __init__(self, db: BaseDb) -> None:
        super().__init__()
        self._db = db

    def _arrive(self, wake: Callable[[], object]) -> bool:
        self._db.flush()
        say("READY")
        return super()._arrive(wake)


def agent_of(db: BaseDb, turns: list[Any], tools: list[Any]) -> Agent:
    return Agent(ScriptedModel(turns), name="Worker", tools=tools, db=db, add_history_to_context=True)


def in_a_stream(db: BaseDb) -> None:
    """The model is telling something."""
    agent = agent_of(db, [["half an ", "answer", Killed(db)]], [])
    agent.run("tell me", session_id="s", run_id="r")


def in_a_tool(db: BaseDb) -> None:
    """Tool A is done, B runs."""
    done, gate = Gate(), Killed(db)

    async def first() -> str:
        done.open()
        return "A is done"

    async def second() -> str:
        await done.wait()
        while "A is done" not in str(db.get_run("r").tools):  # it is told a moment after the tool has returned
            await asyncio.sleep(0)
        await gate.wait()
        return "never"

    calls = ToolCalls(Call("first", id="a"), Call("second", id="b"))
    agent = agent_of(db, [["I will look.", *calls]], [first, second])
    agent.run("do both", session_id="s", run_id="r")


def between_steps(db: BaseDb) -> None:
    """Step 1 and an agent's step are done, 3 runs."""
    gate = Killed(db)
    writer = Agent(ScriptedModel(["a finished text"]), name="Writer")
    steps: list[Any] = [
        Step("one", executor=lambda given: "one is done"),
        Step("two", agent=writer),
        Step("three", executor=lambda given: gate.wait_blocking(60)),
    ]
    Workflow("W", steps=steps, db=db).run("go", session_id="s", run_id="r")


def in_a_container(db: BaseDb) -> None:
    """A step in a container in a container is done, the next one runs."""
    gate = Killed(db)
    inner = Steps("inner", steps=[Step("deep", executor=lambda given: "deep is done"), lambda given: "deeper too"])
    stuck = Step("stuck", executor=lambda given: gate.wait_blocking(60))
    outer = Steps("outer", steps=[Step("first", executor=lambda given: "first is done"), inner, stuck])
    before = Step("before", executor=lambda given: "before is done")
    Workflow("W", steps=[before, outer], db=db).run("go", session_id="s", run_id="r")


def while_cancelling(db: BaseDb) -> None:
    """A cancel was requested, and its outcome isn't recorded yet."""

    def deaf(given: Any) -> None:
        with shield(60):
            workflow.cancel("r", reason="enough")
            db.flush()
            say("READY")
            threading.Event().wait(60)

    workflow = Workflow("W", steps=[Step("deaf", executor=deaf)], db=db)
    workflow.run("go", session_id="s", run_id="r")


SCENES = {scene.__name__: scene for scene in (in_a_stream, in_a_tool, between_steps, in_a_container, while_cancelling)}

if __name__ == "__main__":
    SCENES[sys.argv[3]](open_db(sys.argv[1], sys.argv[2]))
