"""Calling user functions: sync or async, plain or generators, with the parameters that they ask for by name.

Called by steps, by containers that decide something (`Predicate`), and by a workflow whose `steps` is a function.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from desist.calls.base import InterruptMode
from desist.calls.dispatch import call_user_code
from desist.exceptions import ConfigurationError, StepError, UnsupportedError
from desist.run.events.base import BaseRunOutputEvent, content_text
from desist.run.events.steps import StepOutputEvent
from desist.run.execution.custom_events import set_missing_ids
from desist.run.outputs.agent import RunOutput
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.json_values import error_text
from desist.tools.isolation import Isolation, check_options, check_reachable, refuse_linked
from desist.workflow.execution import WorkflowExecution
from desist.workflow.step_state import StepState
from desist.workflow.types import StepOutput

__all__ = ["GeneratorOutput", "Predicate", "StepFunction", "as_output", "call_function", "function_name"]

#: The maximum nesting of outputs that a function returns.
MAX_OUTPUTS = 32
#: The parameters that a function may ask for by name, besides its input.
_KNOWN = ("session_state", "run_context", "cancel_token", "dependencies")


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, partial or callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function to inspect: the `__call__` of an object, the function of a partial."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call: Callable[..., Any] = function.__call__  # type: ignore[operator]
    return call


class StepFunction:
    """A step's function, inspected once."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        what: str = "step function",
        isolation: Isolation = "thread",
        interrupt: InterruptMode = "auto",
        grace: float | None = None,
    ) -> None:
        self.function, self.what = function, what
        self.isolation, self.interrupt, self.grace = isolation, interrupt, grace
        self.name = function_name(function)
        plain = _plain(function)
        self.is_generator = inspect.isgeneratorfunction(plain)
        self.is_async_generator = inspect.isasyncgenfunction(plain)
        self.is_async = inspect.iscoroutinefunction(plain)
        self.wanted = frozenset(inspect.signature(function).parameters)
        self._check(plain)

    def _check(self, plain: Callable[..., Any]) -> None:
        whose = f"{self.what} {self.name!r}"
        is_async = self.is_async or self.is_async_generator
        check_options(self.isolation, self.interrupt, self.grace, whose, is_async=is_async)
        if self.isolation == "process":
            check_reachable(plain, whose, is_async=is_async, defined=False)
            refuse_linked(sorted(self.wanted), whose)
        elif self.grace is not None:
            raise ConfigurationError(f"{whose}: grace={self.grace!r} needs isolation='process'")

    def arguments(self, flow: WorkflowExecution, **more: Any) -> dict[str, Any]:
        """Return the arguments that the function asks for by name; `more` are those of the caller."""
        known = {
            "session_state": flow.context.session_state,
            "run_context": flow.context,
            "cancel_token": flow.run.token,
            "dependencies": flow.context.dependencies,
            **more,
        }
        return {name: value for name, value in known.items() if name in self.wanted}

    async def invoke(self, begin: Callable[[], Any], *, is_async: bool) -> Any:
        """Call `begin` in a thread or on the loop, and await its result if it is awaitable."""
        made = await call_user_code(begin, name=self.name, is_async=is_async, interrupt=self.interrupt)
        if inspect.isawaitable(made):
            waiting = made
            made = await call_user_code(lambda: waiting, name=self.name, is_async=True, interrupt=self.interrupt)
        return made


async def call_function(
    call: StepFunction, args: tuple[Any, ...], arguments: dict[str, Any], flow: WorkflowExecution, progress: StepState
) -> StepOutput:
    """Call the function and return its output. Sync functions run in a thread or worker process."""
    pieces = GeneratorOutput(flow, progress)
    if call.isolation == "process":
        return await _call_isolated(call, args, arguments, pieces)

    def begin() -> Any:
        made = call.function(*args, **arguments)
        if call.is_async_generator:
            return _drain_async(made, pieces)
        return _drain(made, pieces) if call.is_generator else made

    made = await call.invoke(begin, is_async=call.is_async or call.is_async_generator)
    if call.is_generator or call.is_async_generator:
        return pieces.output()
    return as_output(made)


async def _call_isolated(
    call: StepFunction, args: tuple[Any, ...], arguments: dict[str, Any], pieces: GeneratorOutput
) -> StepOutput:
    from desist.calls.process import run_in_process

    made = await run_in_process(
        call.function,
        args,
        arguments,
        name=call.name,
        grace=call.grace,
        interrupt=call.interrupt,
        on_item=pieces.take if call.is_generator else None,
    )
    return pieces.output() if call.is_generator else as_output(made)


def _drain(items: Iterator[Any], pieces: GeneratorOutput) -> None:
    for item in items:
        pieces.take(item)


async def _drain_async(items: AsyncIterator[Any], pieces: GeneratorOutput) -> None:
    try:
        async for item in items:
            pieces.take(item)
    finally:
        await items.aclose()  # type: ignore[attr-defined]


class GeneratorOutput:
    """Handle a yielded value: an event is emitted, a StepOutput or run output is the result, other values are text."""

    def __init__(self, flow: WorkflowExecution, progress: StepState) -> None:
        self._flow, self._progress = flow, progress
        self._result: StepOutput | None = None

    def take(self, item: Any) -> None:
        """Handle a yielded value."""
        if isinstance(item, StepOutput | RunOutput | WorkflowRunOutput):
            self._result = as_output(item)
        elif isinstance(item, BaseRunOutputEvent):
            set_missing_ids(item, self._progress.common)
            text = item.content if item.is_content and isinstance(getattr(item, "content", None), str) else ""  # type: ignore[attr-defined]
            self._flow.run.emit(item, (lambda: self._progress.content_pieces.append(text)) if text else None)
        else:
            text = content_text(item)
            event = StepOutputEvent(**self._progress.common, step_output=StepOutput(content=item))
            event.is_content = True  # type: ignore[misc]
            self._flow.run.emit(event, lambda: self._progress.content_pieces.append(text))

    def output(self) -> StepOutput:
        """Return the output of the step."""
        return self._result or StepOutput(content="".join(self._progress.content_pieces))


def as_output(made: Any) -> StepOutput:
    """Return what a function of the user's has returned as the output of its step."""
    if isinstance(made, RunOutput | WorkflowRunOutput):
        return StepOutput(content=made.content, step_run_id=made.run_id, metrics=made.metrics)
    if not isinstance(made, StepOutput):
        return StepOutput(content=made)
    _check_depth(made)
    return copy.copy(made)  # the function may return the output of another step, or the same object again


def _check_depth(made: StepOutput) -> None:
    """Raise `ConfigurationError` if outputs are nested too deep to be stored and read."""
    level = {id(made): made}
    for _ in range(MAX_OUTPUTS + 1):
        level = {id(one): one for output in level.values() for one in output.steps or () if isinstance(one, StepOutput)}
        if not level:
            return
    raise ConfigurationError(
        f"a StepOutput has more than {MAX_OUTPUTS} others inside of one another in its steps=: nest fewer"
    )


class Predicate:
    """A user function that decides something for a container: an evaluator, a selector, an end condition.

    Parameters:
        function: sync or async, called with the value to decide about, if it has a parameter for it, and with the
            parameters that it asks for by name.
        what: its description in errors, as "evaluator= of Condition 'x'".

    Raises:
        ConfigurationError: not a callable, or a generator; an expression in a string is not supported.
    """

    def __init__(self, function: Any, what: str) -> None:
        if isinstance(function, str):
            raise UnsupportedError(
                f"{what} is the text {function!r:.80}: expressions aren't supported, give a function"
            )
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"{what} must be a function, not {function!r:.80}")
        self._what = what
        self._call = StepFunction(function, what=what)
        if self._call.is_generator or self._call.is_async_generator:
            raise ConfigurationError(f"{what} must return its answer: {self._call.name!r} is a generator")

    async def answer(self, subject: Any, flow: WorkflowExecution, **more: Any) -> Any:
        """Call the function, in a thread or on the loop.

        Raises:
            StepError: the function raised; the message names the container. Not retryable.
        """
        call = self._call
        arguments = call.arguments(flow, **more)
        args = (subject,) if call.wanted - {*_KNOWN, *more} else ()
        flow.check()
        try:
            return await call.invoke(lambda: call.function(*args, **arguments), is_async=call.is_async)
        except (Exception, SystemExit) as error:
            words = f"{self._what} raised {type(error).__name__}: {error_text(error)}"
            failure = StepError(words)
            failure.retryable = False
            raise failure from error
