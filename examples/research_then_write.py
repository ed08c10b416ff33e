"""Research, then write: one agent looks things up with a tool, another one tells them, a function signs it.

    python examples/research_then_write.py      # scripted; --model NAME for a real model

What to look at: an agent gets what the step before it made; text, tool calls and steps arrive while they happen; and
afterwards the output has what every step made, and what it took.
"""

from __future__ import annotations

from choose_model import chosen_model

from desist import Agent, Step, StepInput, Workflow, tool
from desist.testing import Call

LIBRARY = {
    "octopus": "An octopus has three hearts. Two of them pump blood through the gills.",
    "sloth": "A sloth can hold its breath for forty minutes, longer than a dolphin.",
}


@tool
def look_up(animal: str) -> str:
    """Look up what is known about an animal."""
    return LIBRARY.get(animal.lower(), f"Nothing is known about {animal}.")


def sign(step_input: StepInput) -> str:
    """The last step is a plain function of what came before."""
    notes = str(step_input.get_step_content("research"))
    return f"{step_input.previous_step_content}\n\n    (written from {len(notes.split())} words of notes)"


def main() -> None:
    """Run it, and show each step as it happens."""
    model = chosen_model(__doc__)
    researcher = Agent(
        name="Researcher",
        model=model([Call("look_up", {"animal": "octopus"}), "Notes: three hearts; two of them are for the gills."]),
        instructions="Look the animal up, then write down short notes.",
        tools=[look_up],
    )
    writer = Agent(
        name="Writer",
        model=model(["Whoever falls in love with an octopus should know: it has three hearts to give, not one."]),
        instructions="Make one charming sentence of the notes.",
    )
    steps = [Step("research", agent=researcher), Step("write", agent=writer), Step("sign", executor=sign)]
    workflow = Workflow("Animal of the day", steps=steps)

    with workflow.run("octopus", stream=True, stream_events=True) as events:
        for event in events:
            if event.event == "StepStarted":
                print(f"\n== {event.step_name}")
            elif event.event == "ToolCallCompleted":
                print(f"   [{event.tool.tool_name}({event.tool.tool_args}) -> {event.tool.result}]")
            elif event.event == "RunContent":
                print(event.content, end="", flush=True)

    output = workflow.get_run(events.run_id)
    assert output is not None
    print(output.content)
    print(f"\n[{output.status.value}: {[step.step_name for step in output.step_results]}]")
    for step in output.step_results[:2]:
        print(f"[{step.step_name}: {step.metrics.total_tokens} tokens in {step.metrics.duration:.1f} s]")


if __name__ == "__main__":
    main()
