"""Limits of a run that stay in force when another process resumes the run: deadlines and budget.

Stored with the run and read by the process that resumes it. Functions (`on_cancel`, `price` of a budget) are not
stored: the process that resumes the run provides them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from desist.exceptions import ConfigurationError
from desist.run.options.budget import Budget, BudgetUsage
from desist.run.records.metrics import Usage

__all__ = ["Deadline", "DurableLimits"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time at which a run is cancelled."""

    seconds: float  #: as passed by the caller
    what: str  #: name for messages
    until: float  #: seconds since the epoch


@dataclass(slots=True)
class DurableLimits:
    """The deadlines and the budget of a run."""

    limits: list[Deadline] = field(default_factory=list)
    budget: Budget | None = None
    spent: BudgetUsage | None = None  #: amounts spent by earlier owners of the run

    def text(self) -> str | None:
        """Return the limits as JSON, or None if there are none. The budget's `price` is omitted."""
        if not self.limits and self.budget is None:
            return None
        known: dict[str, Any] = {"limits": self.limits}
        if (budget := self.budget) is not None:
            known["budget"] = {name: getattr(budget, name) for name in ("tokens", "tool_calls", "model_calls", "cost")}
        if self.spent is not None:
            known["spent"] = self.spent
        return msgspec.json.encode(known).decode()

    @classmethod
    def of(cls, text: str | None) -> DurableLimits:
        """Return the limits from JSON. A budget with a cost needs `with_price` before it is used."""
        known: dict[str, Any] = msgspec.json.decode(text) if text else {}
        limits = msgspec.convert(known.get("limits", []), list[Deadline])
        spent = msgspec.convert(known["spent"], BudgetUsage) if "spent" in known else None
        budget = {name: value for name, value in (known.get("budget") or {}).items() if value is not None}
        if "cost" in budget:
            budget["price"] = _unknown
        return cls(limits, Budget(**budget) if budget else None, spent)

    def with_price(self, price: Callable[[str, Usage], float] | None) -> DurableLimits:
        """Return the limits with `price` in the budget, if the budget limits the cost.

        Raises:
            ConfigurationError: `price` is None, but the budget limits the cost.
        """
        if self.budget is None or self.budget.cost is None:
            return self
        if price is None:
            raise ConfigurationError(
                f"the run's budget limits the cost to {self.budget.cost:g}, but no price function was passed:"
                " call resume_lost_runs(price=...)"
            )
        return replace(self, budget=replace(self.budget, price=price))


def _unknown(model: str, usage: Usage) -> float:
    raise ConfigurationError("the budget limits the cost, but has no price function: call resume_lost_runs(price=...)")
