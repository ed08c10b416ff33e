"""What was said of a run when it was started and holds for all of it, in whichever process it goes on: its limits.

Recorded with the run, taken up by who resumes it. What a program gives as a function isn't: `on_cancel`, the price of a
budget's cost. Those are as the workflow has them, which goes on with the run.
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

    seconds: float  #: as it was said
    what: str  #: for messages
    until: float  #: seconds since the epoch


@dataclass(slots=True)
class DurableLimits:
    """The limits of a run."""

    limits: list[Deadline] = field(default_factory=list)
    budget: Budget | None = None
    spent: BudgetUsage | None = None  #: of the budget, by those who worked on it before

    def text(self) -> str | None:
        """Return them as JSON, None if there are none. The price of a cost is left out."""
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
        """Return them from their JSON; `with_price` gives them the price that a limit of the cost needs."""
        known: dict[str, Any] = msgspec.json.decode(text) if text else {}
        limits = msgspec.convert(known.get("limits", []), list[Deadline])
        spent = msgspec.convert(known["spent"], BudgetUsage) if "spent" in known else None
        budget = {name: value for name, value in (known.get("budget") or {}).items() if value is not None}
        if "cost" in budget:
            budget["price"] = _unknown
        return cls(limits, Budget(**budget) if budget else None, spent)

    def with_price(self, price: Callable[[str, Usage], float] | None) -> DurableLimits:
        """Return them with a price, if they need one.

        Raises:
            ConfigurationError: there is none: the cost couldn't be limited any more.
        """
        if self.budget is None or self.budget.cost is None:
            return self
        if price is None:
            raise ConfigurationError(
                f"its budget limits the cost to {self.budget.cost:g}, and what a model call costs isn't known here:"
                " resume_lost_runs(price=...)"
            )
        return replace(self, budget=replace(self.budget, price=price))


def _unknown(model: str, usage: Usage) -> float:
    raise ConfigurationError("what a model call costs isn't known here")
