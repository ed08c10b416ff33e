"""Start work in the background, ask how it is going, stop what takes too long, come back to read from the middle on.

    python examples/background_poller.py        # scripted; --local or --model NAME for a real model

What to look at: arun(background=True) answers PENDING at once. A poller sees what each run has said so far. A reader
that left comes back with the index of the last event that it saw, and misses nothing. What is stopped stays stopped,
with what it had said by then.
"""

from __future__ import annotations

import asyncio

from choose_model import chosen_model

from desist import Agent, Workflow
from desist.run.workflow import WorkflowRunOutput

SHORT = "One: cats. Two: more cats. Three: that will do, thank you."
LONG = "Well now. " + "Another thing that I must mention is the weather. " * 40


async def poll(workflow: Workflow, run_id: str) -> WorkflowRunOutput:
    """Ask how a run is going, print that, and return it."""
    now = await workflow.aget_run(run_id)
    assert now is not None
    print(f"  {workflow.name}: {now.status.value:<9} {(now.content or '')[-40:]!r}")
    return now


async def read_a_bit(workflow: Workflow, run_id: str) -> int:
    """Read along for a while and leave, which doesn't stop a run in the background. Return where we were."""
    async with workflow.afollow(run_id) as events:
        async for event in events:
            if event.event == "RunContent" and event.event_index > 1:
                break
        return event.event_index


async def main() -> None:
    """Two reports side by side; one of them never gets to the point."""
    model = chosen_model(__doc__)
    brief = Workflow("brief", steps=[Agent(model(SHORT), name="Brief", instructions="Three short points on cats.")])
    windy = Workflow("windy", steps=[Agent(model(LONG), name="Windy", instructions="Talk for hours.")])
    first = await brief.arun("Report!", background=True)
    second = await windy.arun("Report!", background=True)
    print(f"started: {first.status.value}, {second.status.value}")

    left_at = await read_a_bit(brief, first.run_id)
    while not (await poll(brief, first.run_id)).status.is_final:
        await poll(windy, second.run_id)
        await asyncio.sleep(0.1)  # the poller's own pace

    receipt = windy.cancel(second.run_id, reason="the other one was enough", by="the poller")
    await receipt
    print(f"windy: {receipt.outcome.value}, {receipt.reason}")
    await poll(windy, second.run_id)

    print(f"what came after event {left_at} of brief:", end=" ")
    async for event in brief.afollow(first.run_id, last_event_index=left_at):
        if event.event == "RunContent":
            print(event.content, end="")
    print()


if __name__ == "__main__":
    asyncio.run(main())
