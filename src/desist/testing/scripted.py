"""`ScriptedModel`: a model without a network that follows a script written by the test.

A script is a list of turns, one for each call of the model; a turn is a list of pieces. The module imports from
`models` and below; it has no notion of agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from desist.exceptions import ConfigurationError, ModelError
from desist.models.base import Model, ModelRequest
from desist.models.response import ModelResponse, ToolCallDelta, Usage
from desist.testing.gates import Gate
from desist.testing.provider.replies import Call, split_words

__all__ = ["ScriptedModel", "ToolCalls"]

_FAIR = 8  # pieces between two yields to the loop


class ToolCalls(tuple[Call, ...]):
    """The tool calls of one turn: `ToolCalls(Call("search", {"q": "x"}), Call("clock"))`."""

    def __new__(cls, *calls: Call) -> ToolCalls:
        """Return the calls as a tuple, in order."""
        return super().__new__(cls, calls)


class ScriptedModel(Model):
    """A model that follows a script.

    A turn is a text (streamed word by word), a `Call` or `ToolCalls`, a pydantic object or a mapping (sent as
    JSON), an exception (raised), a `Gate` (waited at), a list of all these as pieces, or `f(request)` that returns
    a turn, also asynchronously.

    Args:
        script: one text, or the list of turns.
        delay: seconds between pieces.
        repeat: start the script again at its end.

    Raises:
        ConfigurationError: the script is empty.
        ModelError: by `stream`, when the script has run out.
    """

    def __init__(
        self, script: str | Sequence[Any], *, id: str = "scripted", delay: float = 0.0, repeat: bool = False
    ) -> None:
        self.id, self.name, self.provider = id, "ScriptedModel", "desist.testing"
        self._turns: list[Any] = [script] if isinstance(script, str) else list(script)
        if not self._turns:
            raise ConfigurationError("ScriptedModel: the script is empty: give it at least one turn")
        self._delay, self._repeat = delay, repeat
        self._lock = threading.Lock()
        self.requests: list[ModelRequest] = []  #: the requests so far, each a copy from the moment of its arrival
        self.cancelled = 0  #: answers that were interrupted by a cancellation or by closing the stream
        self.completed = 0  #: answers that were sent completely

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds: the script, and where the model is in it."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        """Answer with the next turn of the script. Raises ModelError if there is none, or the exception of the turn."""
        turn = self._next(request)
        try:
            async with contextlib.aclosing(self._play(turn, request)) as pieces:
                async for piece in pieces:
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            with self._lock:
                self.cancelled += 1
            raise
        with self._lock:
            self.completed += 1

    def _next(self, request: ModelRequest) -> Any:
        with self._lock:
            self.requests.append(dataclasses.replace(request, messages=list(request.messages)))
            count, turns = len(self.requests), len(self._turns)
            if count > turns and not self._repeat:
                raise ModelError(
                    f"ScriptedModel {self.id!r}: call {count}, but the script has {turns} turns:"
                    " add turns, or pass repeat=True"
                )
            return self._turns[(count - 1) % turns]

    async def _play(self, turn: Any, request: ModelRequest) -> AsyncGenerator[ModelResponse, None]:
        await asyncio.sleep(0)
        while callable(turn) and not isinstance(turn, type):
            turn = turn(request)
            if inspect.isawaitable(turn):
                turn = await turn
        word_count, calls, sent = 0, 0, 0
        for piece in _pieces(turn):
            if isinstance(piece, Gate):
                await piece.wait()
                continue
            if isinstance(piece, BaseException):
                raise piece
            await self._pause(sent)
            sent += 1
            if isinstance(piece, str):
                word_count += len(piece.split())
                yield ModelResponse(content=piece)
            else:
                for delta in _deltas(calls, piece):
                    yield ModelResponse(tool_calls=[delta])
                calls, word_count = calls + 1, word_count + len(piece.arguments_text().split())
        reason = "tool_calls" if calls else "stop"
        yield ModelResponse(finish_reason=reason, usage=_usage(request, word_count))

    async def _pause(self, sent: int) -> None:
        if self._delay and sent:
            await asyncio.sleep(self._delay)
        elif sent % _FAIR == 0:
            await asyncio.sleep(0)


def _pieces(turn: Any) -> Iterator[Any]:
    """Yield the pieces of a turn: texts, calls, gates and exceptions.

    A text as a turn is split into words; a text in a list is one piece.
    """
    if isinstance(turn, str):
        yield from split_words(turn)
    elif isinstance(turn, Call | Gate | BaseException):
        yield turn
    elif isinstance(turn, type) and issubclass(turn, BaseException):
        yield turn()
    elif isinstance(turn, BaseModel):
        yield turn.model_dump_json()
    elif isinstance(turn, Mapping):
        yield json.dumps(dict(turn))
    elif isinstance(turn, list | tuple):
        for piece in turn:
            if isinstance(piece, str):
                yield piece
            else:
                yield from _pieces(piece)
    else:
        raise ConfigurationError(
            f"ScriptedModel: {turn!r} is not a turn: use a text, Call, ToolCalls, Gate, mapping, model or exception,"
            " or a list of them"
        )


def _deltas(index: int, call: Call) -> Iterator[ToolCallDelta]:
    yield ToolCallDelta(index=index, id=call.id or f"call_{index}_{call.name}", name=call.name)
    for piece in call.pieces():
        yield ToolCallDelta(index=index, arguments=piece)


def _usage(request: ModelRequest, output_tokens: int) -> Usage:
    input_tokens = sum(len(message.get_content_string().split()) for message in request.messages)
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)
