"""The program of `desist mcp` in tests: an agent at a provider, a workflow that waits, one that prints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from pydantic import BaseModel

from desist import Agent, Step, StepInput, Workflow
from desist.models.openai import OpenAIChat


class Sum(BaseModel):
    a: int
    b: int


async def _wait(_: StepInput) -> AsyncIterator[str]:
    yield "so far "
    await asyncio.Event().wait()


def _add(given: StepInput) -> str:
    print("printed by the program")  # must not reach the protocol
    os.system("echo printed by its child")
    return str(given.input.a + given.input.b)


def _break(_: StepInput) -> str:
    raise ValueError("no luck")


def waiting() -> Workflow:
    return Workflow("waits", steps=[Step("wait", executor=_wait)])


def adding() -> Workflow:
    return Workflow("add", description="Adds.", steps=[Step("sum", executor=_add)], input_schema=Sum)


waits, add = waiting(), adding()
breaks = Workflow("breaks", steps=[Step("break", executor=_break, max_retries=0, on_error="fail")])
helper = Agent(
    id="helper",
    name="Helper",
    model=OpenAIChat(id="m", base_url=os.environ.get("PROVIDER", "http://127.0.0.1:9/v1"), api_key="any"),
)
