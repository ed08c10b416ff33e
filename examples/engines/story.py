"""The workflow of the programs in this folder, and its database: $DESIST_DB, or a file in the current folder."""

from __future__ import annotations

import asyncio
import os

from desist import Step, StepInput, Workflow
from desist.db import PostgresDb, SqliteDb

url = os.environ.get("DESIST_DB", "sqlite:///story.db")
db = PostgresDb(url) if url.startswith("postgresql") else SqliteDb(db_url=url)


async def outline(given: StepInput) -> str:
    """Think of three scenes."""
    await asyncio.sleep(0.2)
    return f"{given.input}: the beginning, the middle, the end"


async def write(given: StepInput) -> str:
    """Write them down."""
    await asyncio.sleep(0.2)
    return f"A story about {given.previous_step_content}."


#: With on_crash="resume", a run whose process has died goes on after its last finished step when its job comes again.
story = Workflow(
    "Story", steps=[Step("outline", executor=outline), Step("write", executor=write)], db=db, on_crash="resume"
)
