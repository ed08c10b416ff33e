"""Converting and checking lists of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from desist.agent.agent import Agent
from desist.exceptions import ConfigurationError
from desist.workflow.execution import ChildWorkflow, Runnable
from desist.workflow.step import Step

__all__ = ["MAX_NESTED", "check_tree", "coerce_steps"]

#: The maximum nesting of containers and workflows: their outputs are nested as deep, and must be stored and read.
MAX_NESTED = 32


def coerce_steps(entries: Any, where: str, label: str = "steps") -> list[Runnable]:
    """Return the entries as steps: an agent, workflow or function becomes a step of its name.

    Raises:
        ConfigurationError: an entry of another kind, or two entries of one name; the message says where.
    """
    if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
        raise ConfigurationError(f"{label}= of {where} must be a list, not {entries!r:.80}")
    steps = [_as_step(entry, number, where) for number, entry in enumerate(entries)]
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise ConfigurationError(
                f"{where} has two steps named {step.name!r}: their outputs are found by name, so give one another name"
            )
        seen.add(step.name)
    if _is_deeper(steps, MAX_NESTED):
        _refuse_depth(where)
    return steps


def _is_deeper(steps: Sequence[Runnable], most: int) -> bool:
    """Return whether more than `most` containers and workflows are nested in one another.

    A container that contains itself, after a later change, is not reported here but by `check_tree`.
    """
    level = {id(step): step for step in steps}
    seen = set(level)
    for _ in range(most + 1):
        level = {id(inner): inner for step in level.values() for inner in step.children()}
        if seen >= level.keys():  # nothing, or nothing new
            return False
        seen |= level.keys()
    return True


def _refuse_depth(where: str) -> NoReturn:
    raise ConfigurationError(
        f"{where} has more than {MAX_NESTED} containers and workflows inside of one another, which couldn't be "
        "stored and read: nest fewer, or let a function step run a workflow of its own"
    )


def _as_step(entry: Any, number: int, where: str) -> Runnable:
    made = not isinstance(entry, type)
    if made and hasattr(entry, "execute") and hasattr(entry, "children"):
        step: Runnable = entry
        return step
    if isinstance(entry, Agent):
        return Step(agent=entry)
    if made and isinstance(entry, ChildWorkflow):
        return Step(workflow=entry)
    if made and callable(entry):
        return Step(executor=entry)
    hint = "; a list in it needs a name: Steps(steps=[...])" if isinstance(entry, list | tuple) else ""
    raise ConfigurationError(
        f"step {number} of {where} is {entry!r:.80}: give a Step, a container, an Agent, a Workflow or a function of a"
        f" StepInput{hint}"
    )


def check_tree(steps: Sequence[Runnable], where: str, inside: tuple[object, ...] = ()) -> None:
    """Check steps and everything inside them, before a run.

    Parameters:
        where: the owner of the steps, for the message.
        inside: the steps and workflows around them.

    Raises:
        ConfigurationError: a workflow or container contains itself, is empty or nested too deep, or an agent lacks
            something.
    """
    for step in steps:
        agent = getattr(step, "agent", None)
        if agent is not None:
            agent.require_model()
            continue
        if len(inside) - 1 > MAX_NESTED:
            _refuse_depth(where)
        workflow = getattr(step, "workflow", None)
        node = step if workflow is None else workflow
        if any(node is outer for outer in inside):
            raise ConfigurationError(
                f"step {step.name!r} of {where} leads back to {node!r}, which it is inside of: it would never end"
            )
        if workflow is not None:
            workflow.check((*inside, node))
        elif children := step.children():
            check_tree(children, f"{type(step).__name__} {step.name!r}", (*inside, node))
