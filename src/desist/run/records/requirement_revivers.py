"""Rebuild requirements from plain values. Their classes are imported on first use: most runs never pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from desist.run.records.run_requirement import RunRequirement
    from desist.run.records.step_requirement import ErrorRequirement, StepRequirement

__all__ = ["revive_error_requirements", "revive_run_requirements", "revive_step_requirements"]


def revive_run_requirements(values: list[Any]) -> list[RunRequirement]:
    """Return the requirements of an agent's run."""
    from desist.run.records.run_requirement import RunRequirement

    return [value if isinstance(value, RunRequirement) else RunRequirement.from_dict(value) for value in values]


def revive_step_requirements(values: list[Any]) -> list[StepRequirement]:
    """Return the requirements of steps."""
    from desist.run.records.step_requirement import StepRequirement

    return [value if isinstance(value, StepRequirement) else StepRequirement.from_dict(value) for value in values]


def revive_error_requirements(values: list[Any]) -> list[ErrorRequirement]:
    """Return the requirements of failed steps."""
    from desist.run.records.step_requirement import ErrorRequirement

    return [value if isinstance(value, ErrorRequirement) else ErrorRequirement.from_dict(value) for value in values]
