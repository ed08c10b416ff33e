"""Programs that are killed in mid-run, to be continued by another: `python continue_crash_program.py FILE SCENE`.

They say READY where they wait. The workflows are built by functions that the test uses too, as a program would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from desist import Agent, Loop, Parallel, Router, Step, StepInput, Steps, Workflow
from desist.db import SqliteDb
from desist.testing import Call, Gate, ScriptedModel


class Killed(Gate):
    """Where the program waits to be killed. What had finished is flushed first; the test is about what is stored."""

    def __init__(self, db: SqliteDb) -> None:
        super().__init__()
        self._db = db

    def _arrive(self, wake: Callable[[], object]) -> bool:
        self._db.flush()
        os.write(1, b"READY\n")
        return super()._arrive(wake)


class Ledger:
    """What was done, in a file, so that it outlives a process."""

    def __init__(self, file: Path) -> None:
        self._file = file.with_suffix(".ledger")

    def note(self, word: str) -> None:
        with self._file.open("a") as opened:
            opened.write(f"{word}\n")

    @property
    def words(self) -> list[str]:
        return self._file.read_text().split()


def steps_of(db: SqliteDb, ledger: Ledger, gate: Gate | None) -> Workflow:
    """Steps of all kinds, and in the depth of a nested workflow one that waits at the gate, if there is one."""

    def step(name: str) -> Step:
        async def work(given: StepInput) -> str:
            ledger.note(name)
            if name == "stuck" and gate is not None:
                await gate.wait()
            return f"{name} after {given.get_last_step_content()}"

        return Step(name, executor=work)

    rounds = Loop([step("round")], name="rounds", max_iterations=2)
    wrapped = Steps("wrapped", steps=[Steps("wrapper", steps=[step("deep"), step("stuck")])])
    steps = [
        step("first"),
        Parallel("both", step("left"), step("right")),
        rounds,
        Workflow("nested", steps=[step("inner"), wrapped]),
        step("last"),
    ]
    return Workflow("Long", steps=steps, db=db)


def choice_of(db: SqliteDb, ledger: Ledger, gate: Gate | None) -> Workflow:
    """A selector that would choose something else the second time, and a branch that waits at the gate."""

    def select(given: StepInput) -> str:
        ledger.note("selected")
        return "a" if gate is not None else "b"

    async def work(given: StepInput) -> str:
        ledger.note("worked")
        if gate is not None:
            await gate.wait()
        return "a"

    return Workflow("Choice", steps=[Router([Step("a", executor=work), Step("b", executor=work)], select)], db=db)


def shop_of(db: SqliteDb, ledger: Ledger, gate: Gate | None, *, alone: bool = False, on_crash: Any = "mark") -> Any:
    """An agent that looks something up, then orders it, which waits at the gate; in a workflow, or alone."""

    def look_up() -> str:
        """Look something up."""
        ledger.note("looked")
        return "in stock"

    async def order() -> str:
        """Order it."""
        ledger.note("ordered")
        if gate is not None:
            await gate.wait()
        return "ordered"

    turns: list[Any] = [Call("look_up", id="a"), Call("order", id="b")] if gate else ["It may be ordered already."]
    agent = Agent(ScriptedModel(turns), name="Shop", tools=[look_up, order], db=db if alone else None)
    steps = [lambda given: "go", Step("shop", agent=agent)]
    return agent if alone else Workflow("Shopping", steps=steps, db=db, on_crash=on_crash)


def shop_alone_of(db: SqliteDb, ledger: Ledger, gate: Gate | None) -> Any:
    """The same agent by itself."""
    return shop_of(db, ledger, gate, alone=True)


def shop_resumed_of(db: SqliteDb, ledger: Ledger, gate: Gate | None) -> Any:
    """The same workflow, whose runs are gone on with after a crash."""
    return shop_of(db, ledger, gate, on_crash="resume")


SCENES: dict[str, Callable[[SqliteDb, Ledger, Gate | None], Any]] = {
    "again": steps_of,
    "choice": choice_of,
    "shop": shop_of,
    "shop_alone": shop_alone_of,
    "shop_resumed": shop_resumed_of,
    "steps": steps_of,
}

if __name__ == "__main__":
    file, scene = Path(sys.argv[1]), sys.argv[2]
    opened = SqliteDb(file)
    runner = SCENES[scene](opened, Ledger(file), Killed(opened))
    if scene == "again":
        runner.continue_run(run_id="r")
    else:
        runner.run("buy it", run_id="r", session_id="s", user_id="u")
