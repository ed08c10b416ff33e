"""The workflow of this deployment; `python story.py SUBJECT` submits a run and prints its id."""

from __future__ import annotations

import asyncio
import os
import sys

from desist import Step, StepInput, Workflow
from desist.db import PostgresDb

db = PostgresDb(os.environ["DESIST_DB"])


async def outline(given: StepInput) -> str:
    """Think of three scenes."""
    await asyncio.sleep(1)
    return f"{given.input}: the beginning, the middle, the end"


async def write(given: StepInput) -> str:
    """Write them down."""
    await asyncio.sleep(1)
    return f"A story about {given.previous_step_content}."


#: With on_crash="resume", a run whose worker ends goes on with another worker.
story = Workflow(
    "Story", steps=[Step("outline", executor=outline), Step("write", executor=write)], db=db, on_crash="resume"
)

if __name__ == "__main__":
    print(story.submit(" ".join(sys.argv[1:])).run_id)
