"""The components for tests of the page: every kind of step, uninterruptible tools, forms; with gates."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from desist import Agent, Loop, Parallel, Step, StepInput, StepOutput, Workflow, tool
from desist.testing import Call, Gate, ScriptedModel, ToolCalls

TALE = (
    "The dragon kept bees. Nobody in the valley knew, because nobody in the valley asked. "
    "They saw the smoke each morning and counted their goats, and the goats were always all there.\n\n"
    "It had begun with a swarm that took her for a cliff. "
)
END = "By the third summer there was honey enough to be embarrassing. "


@tool
def search_archive(query: str, limit: int = 3) -> str:
    """Search the archive.

    Args:
        query: the search terms.
        limit: the maximum of results.
    """
    found = [{"title": f"{query}, a treatise", "year": 1512 + 40 * n} for n in range(limit)]
    return str(found).replace("'", '"')


@tool
def measure_wing(species: str) -> str:
    """Measure a wing.

    Args:
        species: whose.
    """
    return f"{species}: 11.4 m from tip to tip, and singed at the left edge"


def story(gate: Gate, delay: float = 0.0) -> Workflow:
    """A workflow that researches in two branches, outlines in iterations, and writes; it waits within a sentence."""
    historian = Agent(
        name="Historian",
        model=ScriptedModel(
            [Call("search_archive", {"query": "dragons and bees"}), "Three papers say that they got on."],
            repeat=True,
            delay=delay,
            id="small-1",
        ),
        tools=[search_archive],
    )
    zoologist = Agent(
        name="Zoologist",
        model=ScriptedModel(
            [ToolCalls(Call("measure_wing", {"species": "Draco apiarius"})), "The wing beats fan a hive well."],
            repeat=True,
            delay=delay,
            id="small-1",
        ),
        tools=[measure_wing],
    )
    writer = Agent(
        name="Writer",
        model=ScriptedModel([[*pieces(TALE), gate, *pieces(END)]], repeat=True, delay=delay, id="large-2"),
    )
    outline = Step("outline", executor=lambda given: "1. bees  2. goats  3. honey")
    return Workflow(
        "Dragon story",
        description="Researches, outlines and writes a story.",
        steps=[
            Parallel(Step("history", agent=historian), Step("zoology", agent=zoologist), name="research"),
            Loop(name="plan", steps=[outline], max_iterations=2),
            Step("write", agent=writer),
        ],
    )


def pieces(text: str) -> Iterator[str]:
    """Yield a text in chunks of some letters, like a model."""
    for at in range(0, len(text), 6):
        yield text[at : at + 6]


def endless(name: str = "Endless", gate: Gate | None = None) -> Workflow:
    """A workflow that emits a word and waits."""
    shut = gate or Gate()

    async def wait(_: StepInput) -> AsyncIterator[str]:
        yield "once upon "
        await shut.wait()
        yield "a time"

    return Workflow(name, description="Says a word, and waits.", steps=[Step("wait", executor=wait)])


class Deaf:
    """An agent with three concurrent tools: two can be interrupted, one is in a C call until it is released."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.lock.acquire()
        self.gate = Gate()

    def agent(self) -> Agent:
        """Return the agent."""

        @tool
        def nap(minutes: int) -> str:
            """Sleep in a call that can't be interrupted."""
            self.inside.release()
            self.lock.acquire()
            return "slept"

        @tool
        async def listen(to: str) -> str:
            """Wait in a call that can be interrupted."""
            self.inside.release()
            await self.gate.wait()
            return to

        rain, wind = (Call("listen", {"to": to}, id=to) for to in ("rain", "wind"))
        calls = ToolCalls(Call("nap", {"minutes": 10}), rain, wind)
        return Agent(name="Sleeper", model=ScriptedModel([calls, "done"], repeat=True), tools=[nap, listen])

    def wait_inside(self) -> None:
        """Wait until all three tools are called."""
        for _ in range(3):
            assert self.inside.acquire(timeout=30)

    def let_go(self) -> None:
        """Release the uninterruptible tool."""
        self.lock.release()


def tidying(gate: Gate, entered: threading.Event) -> Workflow:
    """A workflow whose cleanup waits at a gate: it is CANCELLING until the end of the grace, or until it is forced."""

    async def tidy(_: StepOutput) -> None:
        entered.set()
        await gate.wait()

    async def wait(_: StepInput) -> AsyncIterator[str]:
        yield "working "
        await Gate().wait()

    return Workflow("Tidy", steps=[Step("work", executor=wait, on_cancel=tidy)], grace=3600.0)


class Mood(str, Enum):
    """How a story is told."""

    grim = "grim"
    merry = "merry"


class Beast(BaseModel):
    """Who it is about."""

    name: str = Field(min_length=1)
    legs: int = Field(default=4, ge=0, le=1000, description="How many it stands on.")


class Order(BaseModel):
    """What to write."""

    title: str = Field(min_length=1, max_length=80, description="Of the story.")
    mood: Mood = Mood.merry
    chapters: int = Field(ge=1, le=12)
    rhymed: bool = False
    beast: Beast
    words: list[str] = Field(default=["honey"], description="That must be in it.")
    budget: float | None = None


def ordered() -> Workflow:
    """A workflow with an input schema that returns its input."""

    def tell(given: StepInput) -> str:
        order: Any = given.input
        beast = f"{order.beast.name} on {order.beast.legs} legs"
        return f"{order.title}: {beast}, {order.mood.value}, {', '.join(order.words)}"

    return Workflow("Order", description="Writes to order.", input_schema=Order, steps=[Step("tell", executor=tell)])


def many(count: int, gate: Gate) -> Workflow:
    """A workflow that emits many chunks, and waits."""

    async def tell(_: StepInput) -> AsyncIterator[str]:
        for number in range(count):
            yield f"word{number} "
        await gate.wait()
        yield "last"

    return Workflow("Many", steps=[Step("tell", executor=tell)])
