"""Write, have it judged, write again, until it is good enough or the rounds are over.

    python examples/loop_until_good.py          # scripted; --model NAME for a real model

What to look at: the judge answers with an object of a schema, not with a text to be searched for a number; the end
condition reads it. Each round goes on from what the last one made (forward_iteration_output).
"""

from __future__ import annotations

from choose_model import chosen_model
from pydantic import BaseModel, Field

from desist import Agent, Loop, Step, StepOutput, Workflow

TASK = "A haiku about stopping."


class Judgement(BaseModel):
    """What the judge says about a draft."""

    score: int = Field(ge=0, le=10)
    advice: str


def good_enough(outputs: list[StepOutput]) -> bool:
    """A round is the last one if the judge gave an 8 or more."""
    judgement = outputs[-1].content
    return isinstance(judgement, Judgement) and judgement.score >= 8


def main() -> None:
    """Run the loop and show every round."""
    model = chosen_model(__doc__)
    drafts = [
        "Stop the long stories.\nThey are long.\nThey go on.",
        "The river slows down.\nA leaf stays where it has been.\nNothing more will come.",
        "Rain stops on the roof.\nThe last drop hangs, and is kept.\nWhat fell has fallen.",
    ]
    judgements = [
        Judgement(score=3, advice="This counts nothing and shows nothing. Give me a picture."),
        Judgement(score=6, advice="A picture! Now let it stop at once."),
        Judgement(score=9, advice="What fell has fallen. Keep it."),
    ]
    poet = Agent(model(drafts), name="Poet", instructions=f"{TASK} Follow the advice, if there is some.")
    judge = Agent(model(judgements), name="Judge", instructions="Judge the haiku.", output_schema=Judgement)
    rounds = Loop(
        [Step("draft", agent=poet), Step("judge", agent=judge)],
        name="rounds",
        max_iterations=5,
        end_condition=good_enough,
        forward_iteration_output=True,
    )
    workflow = Workflow("Haiku", steps=[rounds])

    haiku = None
    for event in workflow.run(TASK, stream=True, stream_events=True):
        if event.event == "LoopIterationStarted":
            print(f"\nround {event.iteration}")
        elif event.event == "StepCompleted" and event.step_name == "draft":
            haiku = event.content
            print("   " + event.content.replace("\n", "\n   "))
        elif event.event == "StepCompleted" and event.step_name == "judge":
            print(f"   -> {event.content.score}/10: {event.content.advice}")
    print(f"\n[{event.status.value}] {haiku!r}")


if __name__ == "__main__":
    main()
