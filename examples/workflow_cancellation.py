"""Start a workflow, read along, and stop it from another thread after a while.

    export OPENAI_API_KEY=...                        # OPENAI_BASE_URL too, for any other server of the same API
    python examples/workflow_cancellation.py         # cancel three seconds after the first word
    python examples/workflow_cancellation.py --after 8 --model gpt-5-mini
    python examples/workflow_cancellation.py --local # no key: a small model on this machine (`desist model install`)

What to look at: the receipt says the truth at once; the run is stored before its last event is shown; finished steps
stay finished, and the interrupted one keeps what it had said.
"""

from __future__ import annotations

import argparse
import threading

from desist.agent import Agent
from desist.models.base import Model
from desist.models.openai import OpenAIChat
from desist.run.agent import RunEvent
from desist.run.workflow import WorkflowRunEvent
from desist.workflow import Step, Workflow

TASK = "Write a very long story about a dragon who learns to code."


def article_workflow(model: Model) -> Workflow:
    """Return a workflow of two agents: one plans, one writes."""
    planner = Agent(name="Planner", model=model, instructions="List three short ideas for the text that is asked for.")
    writer = Agent(name="Writer", model=model, instructions="Write the text. Use the ideas. Take your time.")
    return Workflow(name="Article", steps=[Step(name="plan", agent=planner), Step(name="write", agent=writer)])


def stop_after(seconds: float, workflow: Workflow, run_id: str, finished: threading.Event) -> None:
    """Cancel the run after `seconds`, unless it has finished by then, and print the receipt."""
    if finished.wait(seconds):
        return
    receipt = workflow.cancel(run_id, reason=f"{seconds:g} seconds are enough", by="example")
    print(f"\n[{receipt.outcome.value}: {receipt.status.value if receipt.status else 'no such run'}]")
    receipt.wait(timeout=5)
    if receipt.settled_at and receipt.requested_at:
        print(f"[settled in {(receipt.settled_at - receipt.requested_at) * 1000:.1f} ms,", end=" ")
        print(f"{receipt.upstream_closed} connection(s) closed, {len(receipt.abandoned)} calls abandoned]")


def main() -> None:
    """Run, read, stop, and show what is left."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--after", type=float, default=3.0, help="seconds from the first word to the cancel (3)")
    options.add_argument("--model", default="gpt-5-mini", help="the provider's name of the model")
    options.add_argument("--local", action="store_true", help="use the local model: no key, no network")
    given = options.parse_args()
    workflow = article_workflow(_local() if given.local else OpenAIChat(id=given.model))

    finished = threading.Event()
    with workflow.run(TASK, stream=True) as events:  # leaving the block, by whatever way, stops the run too
        print(f"[run {events.run_id}]")
        stopper = threading.Thread(target=stop_after, args=(given.after, workflow, events.run_id, finished))
        for event in events:
            if event.event == RunEvent.run_content:
                if stopper.ident is None:
                    stopper.start()
                print(event.content, end="", flush=True)
            elif event.event == WorkflowRunEvent.workflow_cancelled:
                print(f"\n[cancelled: {event.reason}]")
    finished.set()
    if stopper.ident is not None:
        stopper.join()

    output = workflow.get_run(events.run_id)
    assert output is not None
    print(f"[stored as {output.status.value}]")
    for step in output.step_results:
        state = "done" if step.success else "cancelled" if step.cancelled else f"failed: {step.error}"
        print(f"[step {step.step_name}: {state}, {len(step.content or '')} characters kept]")


def _local() -> Model:
    """Return the model on this machine; the error says how to install it where it is missing."""
    from desist.models.local import LocalChat

    return LocalChat()


if __name__ == "__main__":
    main()
