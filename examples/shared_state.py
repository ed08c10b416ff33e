"""A kitchen: tools, functions and parallel branches share one state, and two cooks want the last egg.

    python examples/shared_state.py             # scripted; --model NAME for a real model

What to look at: a tool and a function change `session_state` by just taking it as a parameter. Branches of a Parallel
work on copies, merged in the branches' order; what two of them changed differently is told, not lost in silence. The
state is the session's: the next run finds it, and a run that is stopped leaves what it had done by then.
"""

from __future__ import annotations

import logging
from typing import Any

from choose_model import chosen_model

from desist import Agent, Parallel, Step, StepInput, Workflow, tool
from desist.testing import Call

logging.getLogger("desist").setLevel(logging.ERROR)  # the conflict is logged as a warning, too; we print it ourselves


@tool
def take(thing: str, session_state: dict[str, Any]) -> str:
    """Take one thing from the larder."""
    larder = session_state["larder"]
    if not larder.get(thing):
        return f"there is no {thing} left"
    larder[thing] -= 1
    return f"took a {thing}"


def fry(step_input: StepInput, session_state: dict[str, Any]) -> str:
    """One cook writes on the board what is ready."""
    session_state["board"] = f"{step_input.input}: fried egg"
    session_state["larder"]["butter"] -= 1
    return "sizzling"


def bake(step_input: StepInput, session_state: dict[str, Any]) -> str:
    """The other one does, too, at the same time."""
    session_state["board"] = f"{step_input.input}: cake"
    session_state["larder"]["flour"] -= 1
    return "rising"


def main() -> None:
    """Cook twice in one session."""
    model = chosen_model(__doc__)
    helper = Agent(
        model([Call("take", {"thing": "egg"}), "The egg is on the table."]),
        name="Helper",
        instructions="Take an egg for the meal that is asked for, then say so.",
        tools=[take],
    )
    workflow = Workflow(
        "Kitchen",
        steps=[Step("fetch", agent=helper), Parallel("cooking", fry, bake)],
        session_state={"larder": {"egg": 2, "butter": 3, "flour": 5}, "board": "empty"},
    )
    for meal in ("breakfast", "supper"):
        output = workflow.run(meal, session_id="kitchen")
        fetched, cooking = output.step_results
        print(f"\n{meal}: {fetched.content} Then: {', '.join(str(step.content) for step in cooking.steps)}.")
        print(f"   state:    {workflow.get_session_state('kitchen')}")
        print(f"   conflict: {cooking.conflicts}")
    print(f"\nThe workflow's own state is as it was: {workflow.session_state}")


if __name__ == "__main__":
    main()
