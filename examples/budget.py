"""A budget: tokens, model calls, tool calls or money, counted over a run and all that it starts.

    python examples/budget.py                   # scripted; --model NAME for a real model

What to look at: the tokens are counted while an answer streams, so the run ends in the middle of a sentence and not
after a bill. They are counted over the whole tree: the three talkers share one purse. Whoever is over budget ends
CANCELLED, with source "budget", and keeps what it has.
"""

from __future__ import annotations

from typing import Any

from choose_model import chosen_model

from desist import Agent, Budget, Workflow, tool
from desist.run.metrics import Usage
from desist.testing import Call

SERMON = "Dearly beloved, let me begin at the beginning, which is a very long time ago, and then go on from there. " * 3


@tool
def ask_again(question: str) -> str:
    """Ask somebody else."""
    return f"Nobody knows: {question}"


def price(model: str, used: Usage) -> float:
    """What a call costs; ask your provider. Here a word is two cents, whoever says it."""
    return 0.02 * used.total_tokens


def tell(what: str, output: Any) -> None:
    """Print how a run ended and what is left of it."""
    why = f"{output.cancel.source.value}, {output.cancel.reason}" if output.cancel else "paid"
    print(f"\n{what}\n   {output.status.value}: {why}")
    print(f"   kept: {(output.content or '').strip()!r:.90}")


def main() -> None:
    """Spend too much in three ways, and once just enough."""
    model = chosen_model(__doc__)

    preacher = Agent(model(SERMON), name="Preacher")
    tell("30 tokens for a sermon", preacher.run("Say grace.", budget=Budget(tokens=30)))

    doubter = Agent(
        model(doubts()), name="Doubter", tools=[ask_again], instructions="Never be sure. Ask again and again."
    )
    tell("3 tool calls for a doubter", doubter.run("Is it raining?", budget=Budget(tool_calls=3)))

    talkers = [Agent(model("A fine day for a walk, I should say."), name=name) for name in ("Ann", "Bob", "Cyd")]
    chat = Workflow("Small talk", steps=talkers)
    tell("0.50 for three talkers, who cost 0.02 a word", chat.run("Hello.", budget=Budget(cost=0.50, price=price)))
    output = chat.run("Hello.", budget=Budget(cost=5.00, price=price))
    tell("5.00 for the same", output)
    print(f"   spent: {sum(price('any', run.metrics) for run in output.step_executor_runs):.2f}")


def doubts() -> list[Call]:
    """A script that always wants to know more."""
    return [Call("ask_again", {"question": question}) for question in ("Is it?", "Really?", "Are you sure?", "Why?")]


if __name__ == "__main__":
    main()
