"""Workflows that the tests of stored events run, here and in the worker: the same on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from desist import Agent, Loop, Parallel, Step, Workflow
from desist.db import BaseDb
from desist.run.options.context import RunContext, idempotency_key
from desist.testing import Gate, ScriptedModel

PIECES = ("one ", "two ", "three ", "four ")


def story(gate: Gate, db: BaseDb, **more: Any) -> Workflow:
    """A step that is quick, one that tells pieces around a gate, and one more."""

    async def tell(_: Any) -> AsyncIterator[str]:
        for piece in PIECES[:2]:
            yield piece
        await gate.wait()
        for piece in PIECES[2:]:
            yield piece

    steps = [
        Step("first", executor=lambda _: "first is done"),
        Step("tell", executor=tell),
        Step("last", executor=_last),
    ]
    return Workflow("Story", steps=steps, db=db, **more)


async def _last(_: Any) -> str:
    return "last is done"


def answer(gate: Gate, db: BaseDb, **more: Any) -> Workflow:
    """An agent in a step: its text comes from a model."""
    model = ScriptedModel([["half an ", "answer", gate, " and the rest"]])
    return Workflow("Answer", steps=[Agent(model, name="Writer")], db=db, **more)


def asking(gate: Gate, db: BaseDb, **more: Any) -> Workflow:
    """An agent, a step that waits at the gate, another agent."""

    async def wait(_: Any) -> str:
        await gate.wait()
        return "went on"

    first, second = (Agent(ScriptedModel(["a word"]), name=name) for name in ("First", "Second"))
    return Workflow("Asking", steps=[first, Step("wait", executor=wait), second], db=db, **more)


def paying(gate: Gate, db: BaseDb, **more: Any) -> Workflow:
    """Effects with keys: in a round of a loop, in branches, in a tool; `keys` has them, in their order."""
    keys = more.pop("keys", [])

    async def pay(_: Any) -> str:
        keys.append(idempotency_key())
        return "paid"

    async def late(_: Any, run_context: RunContext) -> str:
        keys.append(run_context.idempotency_key)
        await gate.wait()
        return "paid"

    steps = [
        Loop(name="twice", steps=[Step("pay", executor=pay)], max_iterations=2),
        Parallel(Step("left", executor=pay), Step("right", executor=pay), name="both"),
        Step("late", executor=late),
    ]
    return Workflow("Paying", steps=steps, db=db, **more)


KINDS = {"story": story, "answer": answer, "asking": asking, "paying": paying}


def told(events: list[Any]) -> list[tuple[int | None, str, bool, Any]]:
    """Return what counts of events: number, name, whether it is text, and what it says."""
    return [(event.event_index, event.event, event.is_content, says(event)) for event in events]


def says(event: Any) -> Any:
    """Return what an event says, if anything."""
    return getattr(event, "content", None)


def texts(events: list[Any]) -> list[Any]:
    """Return the pieces of text."""
    return [says(event) for event in events if event.is_content]
