"""Stop a long job, and go on with it tomorrow: what was finished isn't paid for again.

    python examples/stop_and_continue.py        # scripted; --local or --model NAME for a real model

What to look at: a continuation is a new run. It takes over finished steps as they are, branches inside of containers
too, and runs the first unfinished one again. The stopped run stays CANCELLED for ever. The second half uses nothing
of the first but the file, so it could be another process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from choose_model import chosen_model

from desist import Agent, Parallel, Step, Workflow
from desist.db import SqliteDb

CHAPTERS = {
    "outline": "A lighthouse keeper finds a letter that was sent to the sea.",
    "weather": "Fog, then wind, then a morning like glass.",
    "people": "Old Marta, her dog, and a postman who can't swim.",
    "draft": "The fog came first. Marta heard the bell before she saw the boat, and in the boat there was the postman.",
}


def novel(model: Any, db: SqliteDb) -> Workflow:
    """An outline, two things side by side, and the draft."""
    steps = {name: Step(name, agent=Agent(model(text), name=name)) for name, text in CHAPTERS.items()}
    both = Parallel("details", steps["weather"], steps["people"])
    return Workflow("Novel", steps=[steps["outline"], both, steps["draft"]], db=db)


def watch(workflow: Workflow, events: Any, *, stop: bool) -> None:
    """Print which steps run; perhaps stop the run when eight pieces of the draft have come."""
    pieces = 0
    for event in events:
        if event.event == "StepStarted":
            print(f"   runs: {event.step_name}")
        elif event.event == "RunContent" and event.agent_name == "draft":
            pieces += 1
            if stop and pieces == 8:
                workflow.cancel(events.run_id, reason="time for bed")
        elif event.event == "WorkflowCancelled":
            print(f"   stopped ({event.reason}) after: {event.content.strip()!r}")
        elif event.event == "WorkflowCompleted":
            print(f"   done: {event.content!r}")


def main() -> None:
    """Today, and tomorrow."""
    model = chosen_model(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "novel.db"

        print("today")
        db = SqliteDb(file)
        workflow = novel(model, db)
        events = workflow.run("the sea", stream=True, stream_events=True)
        watch(workflow, events, stop=True)
        db.close()

        print("tomorrow")
        db = SqliteDb(file)
        workflow = novel(model, db)
        again = workflow.continue_run(run_id=events.run_id, stream=True, stream_events=True)
        watch(workflow, again, stop=False)

        for run_id in (events.run_id, again.run_id):
            output = workflow.get_run(run_id)
            came_from = " (continues the first)" if output.continued_from else ""
            states = [f"{step.step_name}{' (cancelled)' if step.cancelled else ''}" for step in output.step_results]
            print(f"[{output.status.value}{came_from}: {', '.join(states)}]")
        db.close()


if __name__ == "__main__":
    main()
