"""A page of user code. Checked by `test_typing.py` with the strict modes of mypy and pyright; never run."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Coroutine
from typing import Any, assert_type

from pydantic import BaseModel

from desist import (
    Agent,
    CancelToken,
    Condition,
    Loop,
    OpenAIChat,
    Parallel,
    RunContext,
    RunStatus,
    Step,
    StepInput,
    StepOutput,
    Workflow,
    cancel_run,
    runs,
    tool,
)
from desist.db import SqliteDb
from desist.run.agent import RunOutput, RunOutputEvent
from desist.run.workflow import WorkflowRunOutput
from desist.streams.reader import AsyncReader, SyncReader


class City(BaseModel):
    name: str


@dataclasses.dataclass
class Plan:
    cities: list[City]


@tool
def weather(city: str, run_context: RunContext) -> str:
    """Tell the weather."""
    return f"{city}: {run_context.run_id}"


@tool(timeout=5, strict=True)
async def wait(seconds: float, cancel_token: CancelToken) -> str:
    """Wait."""
    return f"{seconds} {cancel_token.cancelled}"


def draft(step_input: StepInput) -> StepOutput:
    return StepOutput(content=step_input.get_last_step_content())


def is_long(step_input: StepInput) -> bool:
    return len(str(step_input.input)) > 100


async def words(step_input: StepInput) -> AsyncIterator[str]:
    yield str(step_input.input)


db = SqliteDb("runs.db")
agent = Agent(OpenAIChat(id="any"), name="Writer", tools=[weather, wait], output_schema=list[City], db=db)
other = Agent(OpenAIChat(id="any"), output_schema=Plan | None)
workflow = Workflow(
    "Book",
    steps=[
        Step("draft", executor=draft),
        Parallel(Step("a", agent=agent), Step("b", agent=other)),
        Loop(steps=[words], max_iterations=3),
        Condition(evaluator=is_long, steps=[draft]),
    ],
    db=db,
    input_schema=City,
)


def ask(asked: Agent, question: str) -> RunOutput:
    output = asked.run(question, session_id="s", timeout=5)
    assert_type(output, RunOutput)
    if output.status is RunStatus.cancelled and output.cancel is not None:
        print(output.cancel.reason, output.cancel.source.value)
    return output


def ask_streamed(asked: Agent, question: str) -> str:
    events = asked.run(question, stream=True)
    assert_type(events, SyncReader[RunOutputEvent])
    with events:
        return "".join(str(event.content) for event in events if event.is_content)


def ask_either(asked: Agent, question: str, stream: bool) -> RunOutput | SyncReader[RunOutputEvent]:
    return asked.run(question, stream=stream)


def ask_maybe(asked: Agent, question: str, stream: bool | None) -> RunOutput | SyncReader[RunOutputEvent]:
    return asked.run(question, stream=stream, stream_events=stream)


async def ask_later(asked: Agent, question: str, stream: bool) -> RunOutput | None:
    made = asked.arun(question, stream=stream)
    assert_type(made, Coroutine[Any, Any, RunOutput] | AsyncReader[RunOutputEvent])
    if isinstance(made, AsyncReader):
        async for event in made:
            print(event.event)
        return None
    return await made


async def ask_async(asked: Agent, question: str) -> RunOutput:
    async for event in asked.arun(question, stream=True):
        print(event.run_id)
    pending = await asked.arun(question, background=True)
    assert_type(pending, RunOutput)
    return await asked.arun(question)


def work(book: Workflow, city: City, stream: bool) -> WorkflowRunOutput | SyncReader[Any]:
    first = book.run(city)
    assert_type(first, WorkflowRunOutput)
    for event in book.run(city, stream=True, stream_events=True):
        print(event.event)
    return book.run(city, stream=stream)


async def work_async(book: Workflow, city: City, stream: bool) -> WorkflowRunOutput:
    made = book.arun(city, stream=stream)
    if isinstance(made, AsyncReader):
        async with made:
            async for event in made:
                print(event)
    return await book.arun(city)


def go_on(book: Workflow, asked: Agent, run_id: str, stream: bool) -> WorkflowRunOutput:
    assert_type(asked.continue_run(run_id=run_id), RunOutput)
    assert_type(asked.continue_run(run_id=run_id, stream=True), SyncReader[RunOutputEvent])
    assert_type(book.continue_run(run_id=run_id, stream=stream), WorkflowRunOutput | SyncReader[Any])
    last = book.get_last_run_output()
    if last is not None and last.run_id is not None:
        print(last.content, cancel_run(last.run_id), book.cancel(last.run_id, reason="enough").wait(5))
    return book.continue_run(run_id=run_id)


def show(asked: Agent, book: Workflow, stream: bool) -> list[str]:
    asked.print_response("hello", stream=stream)
    book.print_response(City(name="Oslo"), stream=stream)
    return [run.run_id for run in runs(older_than=5)]
