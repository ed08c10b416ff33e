"""Budgets: limits on what a run and its descendants may spend. A run over its budget is cancelled, source `budget`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Reach
from desist.exceptions import ConfigurationError
from desist.run.options.numbers import check_number
from desist.run.records.metrics import Usage

__all__ = ["Budget", "BudgetMeter", "BudgetUsage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a run and its descendants. None: no limit.

    Parameters:
        tokens: input and output tokens together, as reported by providers. While a response streams, each piece of
            text counts as one token, so that the response can be cancelled midway.
        tool_calls: number of tool calls that may start.
        model_calls: number of requests that may be sent.
        cost: in the unit of `price`.
        price: function that returns the cost of a model call from the model's id and the `Usage`. Required for `cost`.

    Raises:
        ConfigurationError: a limit is negative, no limit is set, or `cost` is set without `price`.
    """

    tokens: int | None = None
    tool_calls: int | None = None
    model_calls: int | None = None
    cost: float | None = None
    price: Callable[[str, Usage], float] | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("tokens", "tool_calls", "model_calls", "cost")}
        for name, limit in limits.items():
            check_number(limit, name, "of a Budget")
        if all(limit is None for limit in limits.values()):
            raise ConfigurationError("a Budget must limit something: pass tokens=, tool_calls=, model_calls= or cost=")
        if self.cost is not None and self.price is None:
            raise ConfigurationError("cost= of a Budget needs price=: a function of a model's id and its Usage")


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """The amounts spent so far."""

    tokens: int = 0
    tool_calls: int = 0
    model_calls: int = 0
    cost: float = 0.0


class _BudgetOwner(Protocol):
    def cancel(self, reason: CancelReason, *, reach: Reach = "tree") -> Any:
        """Cancel the run."""

    def checkpoint(self, kind: Any, value: Any) -> None:
        """Record a value, so that it survives a crash."""


class BudgetMeter:
    """Counts what a run and its descendants spend, and cancels the run when its budget is exceeded.

    Thread-safe: descendants may run on other event loops.

    Parameters:
        run: the run to cancel.
        budget: the limits.
        before: amounts spent by earlier owners of the run, which have crashed.
        checkpointed: whether to record the amounts, so that another process can resume the run with them.
    """

    __slots__ = ("_budget", "_checkpointed", "_lock", "_run", "cost", "model_calls", "pieces", "tokens", "tool_calls")

    def __init__(
        self, run: _BudgetOwner, budget: Budget, before: BudgetUsage | None = None, *, checkpointed: bool = False
    ) -> None:
        self._run, self._budget, self._checkpointed = run, budget, checkpointed
        self._lock = threading.Lock()
        before = before or BudgetUsage()
        self.tokens, self.tool_calls, self.model_calls = before.tokens, before.tool_calls, before.model_calls
        self.pieces = 0  #: pieces of text of the responses that are streaming now
        self.cost = before.cost

    def _keep(self) -> None:
        if self._checkpointed:
            self._run.checkpoint("spent", BudgetUsage(self.tokens, self.tool_calls, self.model_calls, self.cost))

    def model_call(self) -> None:
        """Count a model call. Call this before the request is sent."""
        with self._lock:
            self._refuse_spent()
            self.model_calls += 1
            self._hold("model_calls", self.model_calls, self._budget.model_calls)
        self._keep()

    def tool_call(self) -> None:
        """Count a tool call. Call this before the tool is called."""
        with self._lock:
            self.tool_calls += 1
            self._hold("tool_calls", self.tool_calls, self._budget.tool_calls)
        self._keep()

    def count_tokens(self) -> None:
        """Count a received piece of text as one token."""
        with self._lock:
            self.pieces += 1
            self._hold("tokens", self.tokens + self.pieces, self._budget.tokens)

    def used(self, model: str, usage: Usage, pieces: int) -> None:
        """Replace the pieces of a complete response by the tokens that the provider reported, and add its cost."""
        price = self._budget.price
        cost = price(model, usage) if price is not None else 0.0
        with self._lock:
            self.pieces -= pieces
            self.tokens += usage.total_tokens or usage.input_tokens + usage.output_tokens or pieces
            self.cost += cost
            self._hold("tokens", self.tokens + self.pieces, self._budget.tokens)
            self._hold("cost", self.cost, self._budget.cost)
        self._keep()

    def _refuse_spent(self) -> None:
        """Cancel the run if its tokens or its cost have reached the limit, so that no new request is sent."""
        budget = self._budget
        if budget.tokens is not None and self.tokens >= budget.tokens:
            self._stop("tokens", self.tokens, budget.tokens)
        if budget.cost is not None and self.cost >= budget.cost:
            self._stop("cost", self.cost, budget.cost)

    def _hold(self, what: str, spent: float, limit: float | None) -> None:
        if limit is not None and spent > limit:
            self._stop(what, spent, limit)

    def _stop(self, what: str, spent: float, limit: float) -> None:
        text = f"the budget of {limit:g} {what} is spent ({spent:g})"
        self._run.cancel(CancelReason(source=Source.budget, text=text, by="desist"), reach="run")
