"""The workflow `story` for the programs in `examples/engines`, in place of theirs: its second step waits to be let on.

$STORY_FOLDER has the database, a file `write.PID` for each process that has come to the second step, and the file
`open` that lets the step on. `cleaned` says that the hook ran.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from desist import Step, StepInput, Workflow
from desist.db import SqliteDb

folder = Path(os.environ["STORY_FOLDER"])
db = SqliteDb(db_url=f"sqlite:///{folder}/runs.db", timeout=20)


async def outline(given: StepInput) -> str:
    return f"outline of {given.input}"


async def write(given: StepInput) -> str:
    (folder / f"write.{os.getpid()}").touch()
    while not (folder / "open").exists():
        await asyncio.sleep(0.02)
    return f"story of {given.input}"


def clean(output: object) -> None:
    (folder / "cleaned").touch()


steps = [Step("outline", executor=outline), Step("write", executor=write)]
story = Workflow("Story", steps=steps, db=db, on_crash="resume", on_cancel=clean)
