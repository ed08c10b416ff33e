"""What the runs do: five kinds of workflow, whose function steps write down when they begin and end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from bench.chaos.notes import Notes
from desist import Agent, Loop, Parallel, Step, Workflow
from desist.cancel.token import current_token
from desist.models.openai import OpenAIChat
from desist.run.execution.run import current_run
from desist.testing import Call, ScriptedModel

__all__ = ["Works"]


class Works:
    """The workflows of one process, by kind and by what becomes of their runs in a crash.

    Parameters:
        url: of the provider that streams.
        in_step: is told the run's id by each function step as it begins.
    """

    def __init__(self, db: Any, url: str, notes: Notes, in_step: Callable[[str], None]) -> None:
        self._db, self._url, self._notes, self._in_step = db, url, notes, in_step
        self._made: dict[tuple[str, str], Workflow] = {}

    def get(self, kind: str, on_crash: Any) -> Workflow:
        """Return one."""
        found = self._made.get((kind, on_crash))
        if found is None:
            steps = getattr(self, f"_{kind}")()
            name = f"{kind}-{on_crash}"
            found = Workflow(name, id=name, steps=steps, db=self._db, on_crash=on_crash)
            self._made[kind, on_crash] = found
        return found

    # -- the kinds

    def _quick(self) -> list[Any]:
        return [self._step(name) for name in ("one", "two", "three", "four")]

    def _stream(self) -> list[Any]:
        writer = Agent(OpenAIChat("m", api_key="k", base_url=self._url), name="Writer")
        return [self._step("before"), Step("writer", agent=writer, max_retries=0), self._step("after")]

    def _parallel(self) -> list[Any]:
        branches = Parallel(self._step("left"), self._step("middle"), self._step("right"), name="both")
        return [branches, Loop([self._step("round")], name="rounds", max_iterations=3)]

    def _tool(self) -> list[Any]:
        notes = self._notes

        def act() -> str:
            """Wait, in a way that a cancel ends."""
            run_id = _root_id()
            notes("start", run=run_id, step="act")
            current_token().sleep(0.3)
            notes("end", run=run_id, step="act")
            return "acted"

        def turn(request: Any) -> Any:
            return "done" if request.messages[-1].role == "tool" else Call("act")

        agent = Agent(ScriptedModel([turn], repeat=True), name="Actor", tools=[act])
        return [Step("actor", agent=agent, max_retries=0), self._step("after")]

    def _deaf(self) -> list[Any]:
        def deaf(step_input: Any) -> str:
            with self._noted("deaf"):
                time.sleep(0.2 + 2 * _pace(step_input))  # a C call: nothing can interrupt it
            return "deaf"

        return [self._step("before"), Step("deaf", executor=deaf, max_retries=0), self._step("after")]

    def _step(self, name: str) -> Step:
        async def work(step_input: Any) -> str:
            with self._noted(name):
                await asyncio.sleep(_pace(step_input))
            return name

        return Step(name, executor=work, max_retries=0)

    def _noted(self, step: str) -> _Noted:
        return _Noted(self._notes, step, self._in_step)


class _Noted:
    """Writes down the beginning of a step, and its end if it comes to that."""

    def __init__(self, notes: Callable[..., None], step: str, in_step: Callable[[str], None]) -> None:
        self._notes, self._step, self._in_step = notes, step, in_step

    def __enter__(self) -> None:
        self._run_id = _root_id()
        self._notes("start", run=self._run_id, step=self._step)
        self._in_step(self._run_id)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._notes("end", run=self._run_id, step=self._step)


def _root_id() -> str:
    run: Any = current_run()
    assert run is not None
    return str(run.root.run_id)


def _pace(step_input: Any) -> float:
    return float(json.loads(step_input.get_input_as_string())["pace"])
