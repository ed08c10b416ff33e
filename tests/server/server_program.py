"""A program for `desist serve` in tests: one workflow that waits forever, and a quick one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from desist import Step, StepInput, Workflow


async def tell(_: StepInput) -> AsyncIterator[str]:
    yield "once "
    await asyncio.Event().wait()


endless = Workflow("Endless", steps=[Step("tell", executor=tell)])
quick = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")])
