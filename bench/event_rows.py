"""What stored events cost: bytes and microseconds an event, by how many are in a row. `python bench/event_rows.py`.

The stream is that of a workflow with an agent: pieces of text that differ in nothing but the text, and every fiftieth
event the start or the end of a step with what the step made.
"""

from __future__ import annotations

import time
from typing import Any

from desist import StepOutput
from desist.db.events.rows import decoded, event_of, rows_of
from desist.run.events.agent import RunContentEvent
from desist.run.events.steps import StepOutputEvent, StepStartedEvent

COUNT = 20_000
TEXT = "the quick brown fox jumps over a lazy dog and then some of the words come again"
WORDS = TEXT.split()
IDS = {"run_id": "4b0d1c52-7f5c-4f61-9d0e-0c4b6a1f7e11", "session_id": "s-1", "workflow_id": "story"}


def stream() -> list[Any]:
    """Return the events."""
    found: list[Any] = []
    agent = {"agent_id": "writer", "agent_name": "Writer", "parent_run_id": "1f6c-2d", "created_at": 1_700_000_000}
    for number in range(COUNT):
        if number % 50 == 0:
            text = " ".join(WORDS[(number + at * 7) % len(WORDS)] for at in range(40))
            made = StepOutput(step_name="write", step_id="st-7", content=text)
            kind = (
                StepOutputEvent(step_output=made, **IDS) if number % 100 else StepStartedEvent(step_name="write", **IDS)
            )
            found.append(kind)
        else:
            word = WORDS[(number * number) % len(WORDS)]
            event = RunContentEvent(content=f"{word} ", run_id=IDS["run_id"], session_id="s-1", **agent)
            event.step_id, event.step_name, event.workflow_id = "st-7", "write", "story"
            found.append(event)
        found[-1].event_at = 1_700_000_000 + number * 0.02
    return found


def main() -> None:
    """Print a line for each number of events in a row."""
    events = stream()
    print(f"{'in a row':>8} {'bytes':>8} {'write us':>9} {'read us':>8}")
    for most in (1, 2, 10, 50, 250):
        batches = [
            list(enumerate(events))[start : start + most] for start in range(0, 5000 if most < 50 else COUNT, most)
        ]
        count = sum(map(len, batches))
        began = time.process_time()
        rows = [row for batch in batches for row in rows_of("r", batch, 1)]
        written = time.process_time()
        again = [event_of(data, number) for row in rows for number, data in decoded(row)]
        read = time.process_time()
        assert len(again) == count
        size = sum(len(getattr(row, "packed", None) or row.body) for row in rows)
        costs = (1e6 * (written - began) / count, 1e6 * (read - written) / count)
        print(f"{most:>8} {size / count:>8.1f} {costs[0]:>9.1f} {costs[1]:>8.1f}")


if __name__ == "__main__":
    main()
