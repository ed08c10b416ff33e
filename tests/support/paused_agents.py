"""Agents whose tools wait for a human, and a count of what the tools have done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from desist import Agent, tool
from desist.testing import Call, ScriptedModel, ToolCalls

__all__ = ["Payments", "paying_agent"]


class Payments:
    """A guarded action, counted. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.made: list[int] = []
        self.before: Callable[[], None] | None = None  #: called by the tool before it pays

    def pay(self, amount: int) -> str:
        """Pay an amount."""
        if self.before is not None:
            self.before()
        with self._lock:
            self.made.append(amount)
        return f"paid {amount}"


def paying_agent(payments: Payments, script: Any = None, *, name: str = "payer", **options: Any) -> Agent:
    """Return an agent that asks whether it may pay 5, and then says "done"."""
    human = {key: options.pop(key) for key in ("answer_timeout", "on_answer_timeout") if key in options}

    @tool(requires_confirmation=True, **human)
    def pay(amount: int) -> str:
        """Pay an amount."""
        return payments.pay(amount)

    @tool
    def look(what: str) -> str:
        """Look something up."""
        return f"saw {what}"

    turns = (
        script if script is not None else [ToolCalls(Call("look", {"what": "it"}), Call("pay", {"amount": 5})), "done"]
    )
    return Agent(ScriptedModel(turns, repeat=True), name=name, tools=[pay, look], **options)
