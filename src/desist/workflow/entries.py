"""What may stand in a list of steps, and what it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from desist.agent.agent import Agent
from desist.exceptions import ConfigurationError
from desist.workflow.flow import Runnable
from desist.workflow.step import Step

__all__ = ["as_steps"]


def as_steps(entries: Sequence[Any], where: str) -> list[Runnable]:
    """Return the entries as steps: steps and containers as they are, an agent or a function as a step of its name.

    Raises:
        ConfigurationError: an entry is something else, or is in the list twice by name; the message says where.
    """
    if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
        raise ConfigurationError(f"steps= of {where} must be a list, not {entries!r:.80}")
    steps = [_as_step(entry, number, where) for number, entry in enumerate(entries)]
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise ConfigurationError(f"{where} has two steps named {step.name!r}: their outputs are found by name")
        seen.add(step.name)
    return steps


def _as_step(entry: Any, number: int, where: str) -> Runnable:
    if hasattr(entry, "perform") and hasattr(entry, "agents"):
        step: Runnable = entry
        return step
    if isinstance(entry, Agent):
        return Step(agent=entry)
    if callable(entry) and not isinstance(entry, type):
        return Step(executor=entry)
    raise ConfigurationError(
        f"step {number} of {where} is {entry!r:.80}: give a Step, a Steps, an Agent or a function of a StepInput"
    )
