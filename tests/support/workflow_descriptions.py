"""Workflows made from a description, that stop at a chosen moment. Used by `test_workflow_generated`.

A `Node` describes a step or container. `visits` says, without running anything, in which order user code is entered:
which leaf or question, for the how-manyth time, and what goes on beside it. `Script` builds the workflow and holds it
at the chosen visit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cancel_trial import Journal
from step_ends import Ends, Key

from desist import Agent, Condition, Loop, Parallel, Router, Step, StepInput, Steps, Workflow
from desist.testing import Gate, ScriptedModel

LEAVES = ("sync", "async", "generator", "async generator", "agent")
ROUNDS = 2


@dataclass(frozen=True)
class Node:
    """A step or container, and what is in it."""

    kind: str
    children: tuple[Node, ...] = ()
    is_async: bool = False  #: the function that decides something for it
    name: str = "top"

    def named(self, name: str = "n") -> Node:
        """Return it with a name for each place."""
        inner = tuple(child.named(f"{name}.{number}") for number, child in enumerate(self.children))
        return Node(self.kind, inner, self.is_async, name)

    @property
    def asks(self) -> bool:
        return self.kind in ("loop", "if", "else", "router")


@dataclass(frozen=True)
class Beside:
    """A branch that runs at the same time: where user code is entered first, and how its end is called."""

    firsts: tuple[Key, ...]
    end: Key


@dataclass(frozen=True)
class Visit:
    """User code is entered: a leaf, or a function that decides."""

    key: Key
    is_leaf: bool
    kind: str
    beside: tuple[Beside, ...]


def visits(node: Node, seen: Counter[str], beside: tuple[Beside, ...] = ()) -> Iterator[Visit]:
    """Name the visits of a run that nobody cancels."""
    if node.kind in LEAVES:
        seen[node.name] += 1
        yield Visit((node.name, seen[node.name]), True, node.kind, beside)
    elif node.kind == "parallel":
        before = seen.copy()
        for child in node.children:
            others = [Beside(_firsts(o, before), (o.name, before[f"{o.name} ends"] + 1)) for o in node.children
                      if o is not child]  # fmt: skip
            yield from visits(child, seen, (*beside, *others))
    else:
        for _ in range(ROUNDS if node.kind == "loop" else 1):
            if node.asks and node.kind != "loop":
                yield _question(node, seen, beside)
            for child in node.children:
                yield from visits(child, seen, beside)
            if node.kind == "loop":
                yield _question(node, seen, beside)
    seen[f"{node.name} ends"] += 1


def _question(node: Node, seen: Counter[str], beside: tuple[Beside, ...]) -> Visit:
    name = f"{node.name}?"
    seen[name] += 1
    return Visit((name, seen[name]), False, node.kind, beside)


def _firsts(node: Node, seen: Counter[str]) -> tuple[Key, ...]:
    if node.kind in LEAVES:
        return ((node.name, seen[node.name] + 1),)
    if node.asks and node.kind != "loop":
        return ((f"{node.name}?", seen[f"{node.name}?"] + 1),)
    if node.kind == "parallel":
        return tuple(key for child in node.children for key in _firsts(child, seen))
    return _firsts(node.children[0], seen)


class Script(Ends):
    """One workflow of a description: who has entered, what has ended, and where it is held."""

    def __init__(self, tree: Node, journal: Journal) -> None:
        super().__init__()
        self.journal = journal
        self.entered: list[Key] = []
        self.gates: dict[Key, Gate] = {}
        self._counts: Counter[str] = Counter()
        top = [self._build(child) for child in tree.children]
        self.workflow = Workflow("top", steps=top, db=journal)

    # -- who enters, and where it is held

    def hold(self, key: Key) -> Gate:
        self.gates[key] = gate = Gate(f"{key}")
        return gate

    def _enter(self, name: str) -> Key:
        with self._changed:
            self._counts[name] += 1
            key = (name, self._counts[name])
            self.entered.append(key)
        return key

    def _blocking(self, name: str) -> Key:
        key = self._enter(name)
        if key in self.gates:
            self.gates[key].wait_blocking()
        return key

    async def _waiting(self, name: str) -> Key:
        key = self._enter(name)
        if key in self.gates:
            await self.gates[key].wait()
        return key

    # -- building it

    def _build(self, node: Node) -> Any:
        if node.kind in LEAVES:
            return self._leaf(node)
        steps = [self._build(child) for child in node.children]
        never = Step(f"{node.name} never", executor=lambda given: self._enter("never"))
        name, question = node.name, self._ask(node)
        return {
            "steps": lambda: Steps(name, steps=steps),
            "parallel": lambda: Parallel(*steps, name=name),
            "loop": lambda: Loop(steps, name, max_iterations=ROUNDS + 1, end_condition=question),
            "if": lambda: Condition(steps, question, [never], name),
            "else": lambda: Condition([never], question, steps, name),
            "router": lambda: Router([never, *steps], question, name),
            "workflow": lambda: Workflow(name, steps=steps, db=self.journal),
        }[node.kind]()

    def _ask(self, node: Node) -> Any:
        names = [child.name for child in node.children]

        def decide(key: Key) -> Any:
            return {"loop": key[1] % ROUNDS == 0, "router": names}.get(node.kind, node.kind == "if")

        def ask(subject: Any) -> Any:
            return decide(self._blocking(f"{node.name}?"))

        async def ask_async(subject: Any) -> Any:
            return decide(await self._waiting(f"{node.name}?"))

        return ask_async if node.is_async else ask

    def _leaf(self, node: Node) -> Step:
        name = node.name
        if node.kind == "agent":
            return Step(name, agent=Agent(ScriptedModel([self._turn(name)], repeat=True), name=name, db=self.journal))

        def plain(given: StepInput) -> str:
            return content(self._blocking(name))

        async def asynchronous(given: StepInput) -> str:
            return content(await self._waiting(name))

        def generator(given: StepInput) -> Any:
            key = self._enter(name)
            yield f"{name}#"
            if key in self.gates:
                self.gates[key].wait_blocking()
            yield str(key[1])

        async def generator_async(given: StepInput) -> Any:
            key = self._enter(name)
            yield f"{name}#"
            if key in self.gates:
                await self.gates[key].wait()
            yield str(key[1])

        kinds = {"sync": plain, "async": asynchronous, "generator": generator, "async generator": generator_async}
        return Step(name, executor=kinds[node.kind])

    def _turn(self, name: str) -> Any:
        def turn(request: Any) -> list[Any]:
            key = self._enter(name)
            gate = [self.gates[key]] if key in self.gates else []
            return [f"{name}#", *gate, str(key[1])]

        return turn


def content(key: Key) -> str:
    """Return what a leaf makes."""
    return f"{key[0]}#{key[1]}"


@dataclass
class Results:
    """The leaves in a tree of outputs."""

    finished: list[str] = field(default_factory=list)
    cancelled: list[tuple[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, outputs: list[dict[str, Any]], leaves: set[str]) -> Results:
        found = cls()
        found._walk(outputs, leaves)
        return found

    def _walk(self, outputs: list[dict[str, Any]], leaves: set[str]) -> None:
        for output in outputs:
            if output["step_name"] in leaves:
                if output.get("cancelled"):
                    self.cancelled.append((output["step_name"], output.get("content")))
                else:
                    assert output["success"], output
                    self.finished.append(output["content"])
            self._walk(output.get("steps") or [], leaves)
