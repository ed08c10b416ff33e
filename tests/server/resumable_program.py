"""A program that is served by one process after another: its runs are stored in a file and resumed after a crash."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from desist import Step, StepInput, Workflow
from desist.db import SqliteDb

db = SqliteDb(os.environ["STORY_DB"])


async def tell(_: StepInput) -> AsyncIterator[str]:
    yield "once "
    yield "upon "
    if os.environ["STORY_STOPS"] == "yes":
        await asyncio.Event().wait()
    yield "a time"


def _workflow(name: str, on_crash: str) -> Workflow:
    steps = [Step("first", executor=lambda _: "first is done"), Step("tell", executor=tell)]
    return Workflow(name, steps=steps, db=db, on_crash=on_crash)  # type: ignore[arg-type]  # one of two words


marked, resumed = _workflow("Marked", "mark"), _workflow("Resumed", "resume")
