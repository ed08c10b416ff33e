"""Public import path of `Budget`."""

from desist.run.options.budget import Budget, BudgetMeter, BudgetUsage

__all__ = ["Budget", "BudgetMeter", "BudgetUsage"]
