"""Send each letter where it belongs: a function chooses among the steps, one of them or several in an order.

    python examples/routing.py                  # scripted; --local or --model NAME for a real model

What to look at: a selector returns a choice, its name, or a list of names. What wasn't chosen doesn't run at all. A
Condition beside it asks a person only where money is concerned.
"""

from __future__ import annotations

from choose_model import chosen_model

from desist import Agent, Condition, Router, Step, StepInput, Workflow

LETTERS = [
    "My teapot arrived in eleven pieces. I want my money back!",
    "How do I clean the teapot?",
    "How lovely your teapots are.",
]


def desk(step_input: StepInput) -> list[str]:
    """Which desks a letter goes to, in this order."""
    letter = str(step_input.input).lower()
    chosen = ["damage", "refund"] if "pieces" in letter or "broken" in letter else []
    return chosen or (["help"] if "?" in letter else ["thanks"])


def about_money(step_input: StepInput) -> bool:
    """Whether somebody must sign."""
    return "refund" in step_input.previous_step_outputs["desk"].chosen


def refund(step_input: StepInput) -> str:
    """Decide with what the desk before has written."""
    return f"{step_input.previous_step_content} 24.50 are on their way to you."


def sign(step_input: StepInput) -> str:
    """What a person would do."""
    return f"{step_input.previous_step_content} [signed by the boss]"


def main() -> None:
    """Answer three letters."""
    model = chosen_model(__doc__)
    damage = Agent(model("We are sorry about your teapot."), name="Damage", instructions="Apologise in one sentence.")
    help_desk = Agent(model("With warm water, and no soap."), name="Help", instructions="Answer in one sentence.")
    thanks = Agent(model("Thank you, you are very kind!"), name="Thanks", instructions="Say thanks in one sentence.")
    choices = [
        Step("damage", agent=damage),
        Step("refund", executor=refund),
        Step("help", agent=help_desk),
        Step("thanks", agent=thanks),
    ]
    workflow = Workflow(
        "Letters",
        steps=[Router(choices, desk, "desk"), Condition([Step("sign", executor=sign)], about_money, name="money?")],
    )
    for letter in LETTERS:
        output = workflow.run(letter)
        routed = output.step_results[0]
        print(f"\n> {letter}\n  via {' + '.join(routed.chosen or [])}: {output.content}")


if __name__ == "__main__":
    main()
