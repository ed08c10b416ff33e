"""Workflows for tests of the command line, each of which can be cancelled at a critical moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from desist import Agent, Parallel, Step, StepInput, Workflow
from desist.testing import Call, ScriptedModel, ToolCalls


async def tell(_: StepInput) -> AsyncIterator[str]:
    yield "once "
    yield "upon "
    await asyncio.Event().wait()


async def silent(_: StepInput) -> str:
    await asyncio.Event().wait()
    return ""


def deaf(_: StepInput) -> str:
    time.sleep(3600)
    return ""


def wait_in_tool() -> str:
    """Wait."""
    time.sleep(3600)
    return ""


def fail(_: StepInput) -> str:
    raise ValueError("no such dragon")


NOTES = Step("notes", executor=lambda given: "notes")

story = Workflow("Story", steps=[NOTES, Step("tell", executor=tell)])
waiting = Workflow("Waiting", steps=[NOTES, Step("silent", executor=silent)])
stubborn = Workflow("Stubborn", steps=[NOTES, Step("deaf", executor=deaf)], grace=3600)
hopeless = Workflow("Hopeless", steps=[NOTES, Step("deaf", executor=deaf)])
quick = Workflow("Quick", steps=[NOTES, Parallel(Step("left", executor=lambda given: f"said: {given.input}"), NOTES)])
failing = Workflow("Failing", steps=[NOTES, Step("fail", executor=fail, on_error="fail", max_retries=0)])
tooled = Agent(
    ScriptedModel([["I look. ", *ToolCalls(Call("wait_in_tool", {}))], "done"]), name="Tooled", tools=[wait_in_tool]
)
talker = Agent(ScriptedModel([["Hello ", "there."]], repeat=True), name="Talker")
