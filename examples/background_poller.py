"""Start work in the background, ask how it is going, stop what takes too long, come back to read from the middle on.

    python examples/background_poller.py        # scripted; --local or --model NAME for a real model

What to look at: arun(background=True) answers PENDING at once. A poller sees what each run has said so far. A reader
that left comes back with the index of the last event that it saw, and misses nothing. What is stopped stays stopped,
with what it had said by then.
"""

from __future__ import annotations

import asyncio

from choose_model import chosen_model

from desist import Agent, RunStatus, Workflow

SHORT = "One: cats. Two: more cats. Three: that will do."
LONG = "Well now. " + "Another thing that I must mention is the weather. " * 40


async def main() -> None:
    """Two reports side by side; one of them never gets to the point."""
    model = chosen_model(__doc__)
    brief = Workflow("brief", steps=[Agent(model(SHORT), name="Brief", instructions="Three short points.")])
    windy = Workflow("windy", steps=[Agent(model(LONG), name="Windy", instructions="Talk for hours.")])
    running = {workflow: (await workflow.arun("Report!", background=True)) for workflow in (brief, windy)}
    for workflow, pending in running.items():
        print(f"{workflow.name}: {pending.status.value}")

    seen = -1
    async with brief.afollow(running[brief].run_id) as events:
        async for event in events:
            seen = event.event_index
            if event.event == "RunContent" and "cats." in event.content:
                break  # a reader of a background run may leave; the run goes on
    print(f"\n(a reader of 'brief' left after event {seen})")

    while any(workflow.get_run(pending.run_id).status.is_final is False for workflow, pending in running.items()):
        await asyncio.sleep(0.1)  # the poller's own pace
        for workflow, pending in running.items():
            now = workflow.get_run(pending.run_id)
            said = sum(len(run.content or "") for run in now.step_executor_runs or ())
            print(f"  {workflow.name}: {now.status.value:<9} {said:>4} characters")
        if windy.get_run(running[windy].run_id).status is RunStatus.running and now_over(brief, running[brief].run_id):
            receipt = windy.cancel(running[windy].run_id, reason="the other one was enough", by="the poller")
            await receipt
            print(f"  windy: {receipt.outcome.value}, {receipt.reason}")

    print("\nthe reader of 'brief' comes back:")
    async for event in brief.afollow(running[brief].run_id, last_event_index=seen):
        if event.event == "RunContent":
            print(event.content, end="")
    output = windy.get_run(running[windy].run_id)
    print(f"\n\nwindy is kept as {output.status.value}: {output.content[:60]!r}...")


def now_over(workflow: Workflow, run_id: str) -> bool:
    """Whether a run has ended."""
    return workflow.get_run(run_id).status.is_final


if __name__ == "__main__":
    asyncio.run(main())
