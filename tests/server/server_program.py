"""A program that `desist serve` serves in tests: one workflow that waits for ever, one that is quick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from desist import Step, StepInput, Workflow


async def tell(_: StepInput) -> AsyncIterator[str]:
    yield "once "
    await asyncio.Event().wait()


endless = Workflow("Endless", steps=[Step("tell", executor=tell)])
quick = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")])
