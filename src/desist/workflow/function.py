"""Calling a step's function: sync or async, plain or a generator, with the parameters that it asks for by name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from desist.cancel.user_code import call_user_code
from desist.cancel.work import Interrupt
from desist.exceptions import ConfigurationError
from desist.run.base import BaseRunOutputEvent, content_text
from desist.run.step_events import StepOutputEvent
from desist.tools.isolation import Isolation, check_options, check_reachable, refuse_linked
from desist.workflow.flow import Flow
from desist.workflow.progress import Progress
from desist.workflow.types import StepInput, StepOutput

__all__ = ["FunctionCall", "call_function", "function_name"]


def function_name(function: Callable[..., Any]) -> str:
    """Return what a function or callable object is called."""
    return getattr(function, "__name__", None) or type(function).__name__


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what `inspect` can look at: the `__call__` of an object, the function of a partial."""
    while hasattr(function, "func"):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = function.__call__  # type: ignore[operator]
    return call


class FunctionCall:
    """A step's function, looked at once."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        isolation: Isolation = "thread",
        interrupt: Interrupt = "auto",
        grace: float | None = None,
    ) -> None:
        self.function = function
        self.isolation, self.interrupt, self.grace = isolation, interrupt, grace
        self.name = function_name(function)
        plain = _plain(function)
        self.is_generator = inspect.isgeneratorfunction(plain)
        self.is_async_generator = inspect.isasyncgenfunction(plain)
        self.is_async = inspect.iscoroutinefunction(plain)
        self.wanted = frozenset(inspect.signature(function).parameters)
        self._check(plain)

    def _check(self, plain: Callable[..., Any]) -> None:
        whose = f"step function {self.name!r}"
        is_async = self.is_async or self.is_async_generator
        check_options(self.isolation, self.interrupt, self.grace, whose, is_async=is_async)
        if self.isolation == "process":
            check_reachable(plain, whose, is_async=is_async, defined=False)
            refuse_linked(sorted(self.wanted), whose)
        elif self.grace is not None:
            raise ConfigurationError(f"{whose}: grace={self.grace!r} needs isolation='process'")

    def arguments(self, flow: Flow) -> dict[str, Any]:
        """Return what the function asks for by name, beside its input."""
        known = {
            "session_state": flow.context.session_state,
            "run_context": flow.context,
            "cancel_token": flow.run.token,
            "dependencies": flow.context.dependencies,
        }
        return {name: value for name, value in known.items() if name in self.wanted}


async def call_function(call: FunctionCall, given: StepInput, flow: Flow, progress: Progress) -> StepOutput:
    """Call it and return what it made. Sync functions run in a worker thread, or in a process if the step says so."""
    arguments = call.arguments(flow)
    pieces = _Pieces(flow, progress)
    if call.isolation == "process":
        return await _call_isolated(call, given, arguments, pieces)
    is_async = call.is_async or call.is_async_generator

    def begin() -> Any:
        made = call.function(given, **arguments)
        if call.is_async_generator:
            return _drain_async(made, pieces)
        return _drain(made, pieces) if call.is_generator else made

    made = await call_user_code(begin, name=call.name, is_async=is_async, interrupt=call.interrupt)
    if call.is_generator or call.is_async_generator:
        return pieces.output()
    if inspect.isawaitable(made):
        waiting = made
        made = await call_user_code(lambda: waiting, name=call.name, is_async=True, interrupt=call.interrupt)
    return _as_output(made)


async def _call_isolated(
    call: FunctionCall, given: StepInput, arguments: dict[str, Any], pieces: _Pieces
) -> StepOutput:
    from desist.cancel.process import run_in_process

    made = await run_in_process(
        call.function,
        (given,),
        arguments,
        name=call.name,
        grace=call.grace,
        interrupt=call.interrupt,
        on_item=pieces.take if call.is_generator else None,
    )
    return pieces.output() if call.is_generator else _as_output(made)


def _drain(items: Iterator[Any], pieces: _Pieces) -> None:
    for item in items:
        pieces.take(item)


async def _drain_async(items: AsyncIterator[Any], pieces: _Pieces) -> None:
    try:
        async for item in items:
            pieces.take(item)
    finally:
        await items.aclose()  # type: ignore[attr-defined]


class _Pieces:
    """What a generator yields: events pass through, a StepOutput is the result, everything else is text."""

    def __init__(self, flow: Flow, progress: Progress) -> None:
        self._flow, self._progress = flow, progress
        self._result: StepOutput | None = None

    def take(self, item: Any) -> None:
        if isinstance(item, StepOutput):
            self._result = item
        elif isinstance(item, BaseRunOutputEvent):
            text = item.content if item.is_content and isinstance(getattr(item, "content", None), str) else ""  # type: ignore[attr-defined]
            self._flow.run.emit(item, (lambda: self._progress.said.append(text)) if text else None)
        else:
            text = content_text(item)
            event = StepOutputEvent(**self._progress.common, step_output=StepOutput(content=item))
            event.is_content = True  # type: ignore[misc]
            self._flow.run.emit(event, lambda: self._progress.said.append(text))

    def output(self) -> StepOutput:
        return self._result or StepOutput(content="".join(self._progress.said))


def _as_output(made: Any) -> StepOutput:
    return made if isinstance(made, StepOutput) else StepOutput(content=made)
