"""Guarantee 7, C1. The history stays usable: each provider takes what a cancel leaves as the next request's history.

The provider on loopback checks every request, and refuses what a real one would refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cancel_trial import PATIENCE

from desist import Agent
from desist.cancel import RunStatus
from desist.models.anthropic import Claude
from desist.models.base import ModelRequest
from desist.models.http.model import HttpModel
from desist.models.http.sdk import Sdk
from desist.models.message import Message
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.testing import HANG, Call, Gate, LoopbackProvider, Reply

THINKING = {"type": "enabled", "budget_tokens": 1024}
MODELS: dict[str, Callable[..., HttpModel]] = {
    "chat": OpenAIChat,
    "responses": OpenAIResponses,
    "claude": Claude,
    "thinking claude": lambda *args, **given: Claude(*args, thinking=THINKING, **given),
}


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """One without TLS: what is sent is the same."""
    for sdk in Sdk:
        _ = sdk.module  # imported before anybody waits: it takes a second or more
    with LoopbackProvider(Reply(text="Fine, I go on.")) as provider:
        yield provider


def made(name: str, provider: LoopbackProvider) -> HttpModel:
    return MODELS[name]("test-model", base_url=provider.base_url, api_key="sk-test-0123456789", max_retries=0)


@dataclass
class Talk:
    """An agent with a tool that returns and one that hangs, and what its reader has seen of a run."""

    provider: LoopbackProvider
    model: HttpModel
    gate: Gate = field(default_factory=Gate)
    seen: list[Any] = field(default_factory=list)

    def start(self, *replies: Reply) -> None:
        self.first_request = len(self.provider.exchanges)
        self.provider.enqueue(*replies)

        def quick(text: str = "") -> str:
            """Return at once."""
            return f"quick says {text}"

        async def slow(text: str = "") -> str:
            """Never return."""
            await self.gate.wait()
            return "never"

        self.agent = Agent(self.model, tools=[quick, slow], instructions="Use the tools.")
        self.events = self.agent.run("go", stream=True, stream_events=True)

    def until(self, name: str, count: int = 1) -> None:
        """Read until so many events of a name were seen."""
        while sum(event.event == name for event in self.seen) < count:
            self.seen.append(next(self.events))

    def request(self, number: int) -> Any:
        """Wait for the run's `number`-th request, from 1."""
        return self.provider.wait_request(self.first_request + number)

    def cancel(self) -> list[Message]:
        """Cancel the run, and return what it leaves of the conversation."""
        receipt = self.agent.cancel(self.events.run_id)
        assert receipt and receipt.wait(PATIENCE)
        self.seen += list(self.events)
        output = self.agent.get_run_output(self.events.run_id)
        assert output is not None and output.status is RunStatus.cancelled
        return output.messages


def one_tool_done_one_running(talk: Talk) -> None:
    calls = [Call("quick", {"text": "a"}), Call("slow")]
    talk.start(Reply(reasoning="Both at once.", text="I call two.", tool_calls=calls))
    talk.until("ToolCallCompleted")
    talk.gate.wait_reached()


def only_a_call_and_no_result(talk: Talk) -> None:
    talk.start(Reply(reasoning="One will do.", tool_calls=[Call("slow", id="an id|with odd/characters")]))
    talk.gate.wait_reached()


def in_the_middle_of_an_answer(talk: Talk) -> None:
    talk.start(Reply(tokens=["Half ", "an ", "answer ", "and ", "more"], stall_after=3))
    talk.until("RunContent", 3)


def in_the_middle_of_a_call(talk: Talk) -> None:
    call = Call("quick", {"text": "an argument that comes in pieces"})
    talk.start(Reply(tokens=["Wait. "], tool_calls=[call], stall_after=4))
    talk.until("RunContent")
    talk.request(1).wait_sent(4)


def in_the_middle_of_a_call_without_a_word(talk: Talk) -> None:
    talk.start(Reply(reasoning="Hm.", tool_calls=[Call("quick", {"text": "in pieces"})], stall_after=3))
    talk.request(1).wait_sent(3)


def before_the_first_word(talk: Talk) -> None:
    talk.start(Reply(before_first_token=HANG))
    talk.request(1).wait_headers()


def after_the_results(talk: Talk) -> None:
    calls = [Call("quick", {"text": "a"}), Call("nothing.like/this", "{broken"), Call("quick", "[1]")]
    talk.start(Reply(reasoning="Three.", tool_calls=calls), Reply(before_headers=HANG))
    talk.request(2)


def in_the_second_answer(talk: Talk) -> None:
    replies = [Reply(text="First. ", tool_calls=[Call("quick")]), Reply(tokens=["Then  ", "more"], stall_after=1)]
    talk.start(*replies)
    talk.until("RunContent", 2)


MOMENTS = [
    one_tool_done_one_running,
    only_a_call_and_no_result,
    in_the_middle_of_an_answer,
    in_the_middle_of_a_call,
    in_the_middle_of_a_call_without_a_word,
    before_the_first_word,
    after_the_results,
    in_the_second_answer,
]
moments = pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
models = pytest.mark.parametrize("name", MODELS)


def check_next(provider: LoopbackProvider, messages: list[Message]) -> None:
    """Each model goes on from here: with a question, with tools or without."""
    tool = {"type": "function", "function": {"name": "quick", "parameters": {"type": "object"}}}

    async def ask(model: HttpModel, tools: list[dict[str, Any]]) -> str:
        request = ModelRequest(messages=[*messages, Message("user", "Go on.")], tools=tools)
        async with aclosing(model.stream(request)) as pieces:
            return "".join([piece.content or "" async for piece in pieces])

    async def ask_all() -> None:
        for name in MODELS:
            for tools in ([], [tool]):
                assert await ask(made(name, provider), tools) == "Fine, I go on."
                assert provider.exchanges[-1].refused is None

    asyncio.run(ask_all())


@models
@moments
def test_the_next_request_is_valid(moment: Callable[[Talk], None], name: str, provider: LoopbackProvider) -> None:
    """Cancelled at this moment, with this model: all models can go on from what is left."""
    talk = Talk(provider, made(name, provider))
    moment(talk)
    check_next(provider, talk.cancel())


@models
@moments
def test_twice_in_a_row(moment: Callable[[Talk], None], name: str, provider: LoopbackProvider) -> None:
    """Cancelled twice, at this moment and at every other: what is left of both, one after the other, is valid."""
    talk = Talk(provider, made(name, provider))
    moment(talk)
    first = talk.cancel()
    for other in MOMENTS:
        again = Talk(provider, made(name, provider))
        other(again)
        check_next(provider, [*first, *again.cancel()])


@models
def test_done_is_done_and_stopped_is_said_to_be(name: str, provider: LoopbackProvider) -> None:
    """The result of the finished tool is in the history as it was; the other call has a result that tells of the
    cancel; both follow the calls, in their order."""
    talk = Talk(provider, made(name, provider))
    one_tool_done_one_running(talk)
    said, done, stopped = talk.cancel()[-3:]
    assert [call.name for call in said.tool_calls or ()] == ["quick", "slow"]
    assert (done.role, done.content, done.cancelled) == ("tool", "quick says a", False)
    assert (stopped.role, stopped.cancelled) == ("tool", True) and "Cancelled" in (stopped.content or "")
    assert [done.tool_call_id, stopped.tool_call_id] == [call.id for call in said.tool_calls or ()]


@models
def test_the_half_answer_is_kept_and_the_half_call_is_not(name: str, provider: LoopbackProvider) -> None:
    """The words before the cancel are the last message, marked; a call that wasn't whole is nowhere."""
    talk = Talk(provider, made(name, provider))
    in_the_middle_of_a_call(talk)
    last = talk.cancel()[-1]
    assert (last.role, last.content, last.tool_calls, last.cancelled) == ("assistant", "Wait. ", None, True)


@models
def test_cancelled_at_every_token(name: str, provider: LoopbackProvider) -> None:
    """Reasoning, text and two calls, cut off after each of their pieces: what is left is valid every time."""
    calls = [Call("quick", {"text": "a"}), Call("slow")]
    reply = Reply(reasoning="Hm, so. ", text="I call two. ", tool_calls=calls)
    for count in range(reply.count()):
        talk = Talk(provider, made(name, provider))
        talk.start(replace(reply, stall_after=count))
        talk.request(1).wait_sent(count)
        check_next(provider, talk.cancel())
