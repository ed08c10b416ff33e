"""How much a run may spend, counted over its whole tree; past that it is cancelled, with source `budget`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Reach
from desist.exceptions import ConfigurationError
from desist.run.records.metrics import Usage

__all__ = ["Budget", "BudgetMeter", "BudgetUsage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a run and all that it starts. None: no limit.

    Parameters:
        tokens: input and output together, as providers count them; while an answer streams, a piece of text counts
            as a token, so that it can be stopped in the middle.
        tool_calls: calls that may start.
        model_calls: requests that may be sent.
        cost: in the unit of `price`.
        price: what a model call costs, from the model's id and its `Usage`. Needed for `cost`.

    Raises:
        ConfigurationError: a limit is negative, nothing is limited, or `cost` has no `price`.
    """

    tokens: int | None = None
    tool_calls: int | None = None
    model_calls: int | None = None
    cost: float | None = None
    price: Callable[[str, Usage], float] | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("tokens", "tool_calls", "model_calls", "cost")}
        for name, limit in limits.items():
            if limit is not None and limit < 0:
                raise ConfigurationError(f"{name}={limit} of a Budget must not be negative")
        if all(limit is None for limit in limits.values()):
            raise ConfigurationError("a Budget must limit something: tokens=, tool_calls=, model_calls= or cost=")
        if self.cost is not None and self.price is None:
            raise ConfigurationError("cost= of a Budget needs price=, a function of a model's id and its Usage")


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """What was spent by a moment."""

    tokens: int = 0
    tool_calls: int = 0
    model_calls: int = 0
    cost: float = 0.0


class _BudgetOwner(Protocol):
    def cancel(self, reason: CancelReason, *, reach: Reach = "tree") -> Any:
        """Cancel the run."""

    def checkpoint(self, kind: Any, value: Any) -> None:
        """Record something, so that a crash doesn't lose it."""


class BudgetMeter:
    """What a run and its tree have spent of its budget. Their loops may differ, so it has a lock of its own.

    Parameters:
        run: it is cancelled past the budget.
        budget: what it may spend.
        before: what was spent before, by those who worked on the run until they died.
        kept: record what is spent, for those who may go on with the run.
    """

    __slots__ = ("_budget", "_checkpointed", "_lock", "_run", "cost", "model_calls", "pieces", "tokens", "tool_calls")

    def __init__(
        self, run: _BudgetOwner, budget: Budget, before: BudgetUsage | None = None, *, checkpointed: bool = False
    ) -> None:
        self._run, self._budget, self._checkpointed = run, budget, checkpointed
        self._lock = threading.Lock()
        before = before or BudgetUsage()
        self.tokens, self.tool_calls, self.model_calls = before.tokens, before.tool_calls, before.model_calls
        self.pieces = 0  #: of answers that still stream
        self.cost = before.cost

    def _keep(self) -> None:
        if self._checkpointed:
            self._run.checkpoint("spent", BudgetUsage(self.tokens, self.tool_calls, self.model_calls, self.cost))

    def model_call(self) -> None:
        """A request is about to be sent."""
        with self._lock:
            self._refuse_spent()
            self.model_calls += 1
            self._hold("model_calls", self.model_calls, self._budget.model_calls)
        self._keep()

    def tool_call(self) -> None:
        """A tool is about to be called."""
        with self._lock:
            self.tool_calls += 1
            self._hold("tool_calls", self.tool_calls, self._budget.tool_calls)
        self._keep()

    def count_tokens(self) -> None:
        """A piece of text has arrived."""
        with self._lock:
            self.pieces += 1
            self._hold("tokens", self.tokens + self.pieces, self._budget.tokens)

    def used(self, model: str, usage: Usage, pieces: int) -> None:
        """An answer is complete: its pieces become what the provider counted."""
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
        """No new request with nothing left to pay it."""
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
