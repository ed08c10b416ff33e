"""The public face of `Budget`."""

from desist.run.options.budget import Budget, Spending, Spent

__all__ = ["Budget", "Spending", "Spent"]
