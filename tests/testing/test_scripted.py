"""The scripted model follows its script, waits at gates, and counts completed and cancelled answers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from desist.exceptions import ConfigurationError, ModelError
from desist.models.base import ModelRequest
from desist.models.message import Message
from desist.models.response import ModelResponse
from desist.testing import Call, Gate, ScriptedModel, ToolCalls


class Answer(BaseModel):
    n: int


def ask() -> ModelRequest:
    return ModelRequest(messages=[Message("user", "three short words")])


async def collect(model: ScriptedModel) -> list[ModelResponse]:
    return [piece async for piece in model.stream(ask())]


def say(model: ScriptedModel) -> str:
    return "".join(piece.content or "" for piece in asyncio.run(collect(model)))


def test_turns_of_every_kind() -> None:
    """Text, pieces, objects, mappings and callables, sync or async, are turns; the requests are recorded."""

    async def later(request: ModelRequest) -> str:
        return f"{len(request.messages)} asked"

    model = ScriptedModel(["a b", ["x", "y z"], Answer(n=1), {"n": 2}, lambda r: later, later])
    assert [say(model) for _ in range(6)] == ["a b", "xy z", '{"n":1}', '{"n": 2}', "1 asked", "1 asked"]
    assert len(model.requests) == model.completed == 6


def test_a_script_that_ran_out_is_an_error_unless_repeated() -> None:
    """The error counts calls and turns; `repeat` starts again; an empty script is refused."""
    model = ScriptedModel("once")
    say(model)
    with pytest.raises(ModelError, match="call 2, but the script has 1 turns"):
        say(model)
    twice = ScriptedModel(["a", "b"], repeat=True)
    assert [say(twice) for _ in range(3)] == ["a", "b", "a"]
    with pytest.raises(ConfigurationError, match="empty"):
        ScriptedModel([])
    with pytest.raises(ConfigurationError, match="3 is not a turn"):
        say(ScriptedModel([3]))


def test_exceptions_are_raised_after_the_pieces_before_them() -> None:
    """An exception in a turn is raised in its position and isn't a cancel."""
    model = ScriptedModel([["a", ModelError("down", retryable=True)]])

    async def main() -> list[str | None]:
        seen = []
        with pytest.raises(ModelError, match="down"):
            async for piece in model.stream(ask()):
                seen.append(piece.content)
        return seen

    assert asyncio.run(main()) == ["a"]
    assert (model.cancelled, model.completed) == (0, 0)


def test_tool_calls_and_usage() -> None:
    """Calls are streamed in pieces by index; the last piece has the usage in words and the reason."""
    model = ScriptedModel([["one two", ToolCalls(Call("f", {"q": "some words"}), Call("g", id="x"))]])
    pieces = asyncio.run(collect(model))
    deltas = [d for p in pieces for d in p.tool_calls or ()]
    assert "".join(d.arguments for d in deltas if d.index == 0) == '{"q": "some words"}'
    assert [(d.name, d.id) for d in deltas if d.name] == [("f", "call_0_f"), ("g", "x")]
    usage: Any = pieces[-1].usage
    assert pieces[-1].finish_reason == "tool_calls"
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (3, 6, 9)


def test_a_gate_holds_the_answer_until_another_thread_opens_it() -> None:
    """Pieces before the gate are delivered while the model waits there."""
    gate, seen = Gate("mid"), list[str]()
    model = ScriptedModel([["a", gate, "b"]])

    async def main() -> None:
        async for piece in model.stream(ask()):
            seen.append(piece.content or "")

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    gate.wait_reached()
    assert seen == ["a"]
    gate.open()
    thread.join()
    assert seen == ["a", "b", ""]


def test_interrupted_answers_are_counted() -> None:
    """A cancelled task and a closed stream both count as cancelled."""
    gate = Gate()
    model = ScriptedModel([[gate, "a"], "b c d"])

    async def main() -> None:
        task = asyncio.create_task(collect(model))
        await asyncio.to_thread(gate.wait_reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = model.stream(ask())
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    assert (model.cancelled, model.completed) == (2, 0)


def test_a_long_answer_yields_to_the_loop() -> None:
    """Without a delay the model still yields to its loop: a task beside it runs."""

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        await collect(ScriptedModel("word " * 800))
        ticker.cancel()
        return ticks

    assert asyncio.run(main()) >= 50
