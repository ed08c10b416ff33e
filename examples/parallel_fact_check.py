"""Check facts side by side; the first that is plainly wrong ends the whole check.

    python examples/parallel_fact_check.py      # scripted; --local or --model NAME for a real model

What to look at: three checkers work at the same time. When one's step fails with on_error="fail", the others are
stopped in the middle of their sentence, and say why: their source is "sibling". Nobody pays for words that no one
needs.
"""

from __future__ import annotations

from choose_model import chosen_model

from desist import Agent, Parallel, Step, StepInput, Steps, Workflow
from desist.models.base import Model

TRUE = "Sharks are older than trees."
FALSE = "Goldfish forget everything after three seconds."
CHECKERS = ["biologist", "historian", "editor"]
PATIENT = "I have found nothing against it. I shall look at a few more sources, to be quite sure about this one."


def reject_if_wrong(step_input: StepInput) -> str:
    """A verdict that begins with WRONG is a failure of this branch."""
    verdict = str(step_input.previous_step_content)
    if verdict.startswith("WRONG"):
        raise ValueError(verdict)
    return verdict


def checker(name: str, model: Model) -> Steps:
    """A branch: an agent gives a verdict, a function judges it."""
    agent = Agent(model, name=name, instructions=f"You are a {name}. Is this true? Begin with RIGHT or WRONG.")
    judge = Step(f"{name}'s verdict", executor=reject_if_wrong, on_error="fail", max_retries=0)
    return Steps(f"{name}'s check", steps=[Step(name, agent=agent), judge])


def check(claim: str, models: list[Model]) -> None:
    """Check one claim and tell how it went."""
    branches = [checker(name, model) for name, model in zip(CHECKERS, models, strict=True)]
    workflow = Workflow("Fact check", steps=[Parallel("checks", *branches)])
    output = workflow.run(claim)
    print(f"\n{claim}")
    for run in output.step_executor_runs or []:
        said = f"{run.content or ''}".strip()
        why = f"  <- stopped: {run.cancel.source.value}" if run.cancel else ""
        print(f"   {run.agent_name:>9}: {said}{why}")
    print(f"   => {'nobody objects' if output.status.value == 'COMPLETED' else output.error}")


def main() -> None:
    """Check a true claim, then a false one."""
    model = chosen_model(__doc__)
    check(TRUE, [model("RIGHT: 450 million years against 350."), model("RIGHT, the fossils say so."), model("RIGHT.")])
    check(FALSE, [model(PATIENT), model("WRONG: they remember for months."), model(PATIENT)])


if __name__ == "__main__":
    main()
