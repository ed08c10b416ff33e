"""One call of a tool with checked arguments, created by `Function.bind`.

Exceptions of the tool propagate to the agent.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from desist.cancel.token import current_token
from desist.exceptions import ConfigurationError
from desist.tools.result import result_text
from desist.tools.signature import EMPTY, INJECTED, Parameter, Signature, is_async
from desist.tools.spec import ToolSpec

__all__ = ["BoundCall", "check_hook"]


class BoundCall:
    """A call that is invoked once. `arguments` are from the model; `kwargs` also has the injected values.

    `result` is the tool's return value, for a `post_hook`.
    """

    __slots__ = ("_injected", "_positional", "_unstarted", "arguments", "function", "kwargs", "result")

    def __init__(
        self, function: ToolSpec, signature: Signature, arguments: dict[str, Any], injected: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.result: Any = None
        self._unstarted: tuple[Any, ...] = ()
        self._injected = injected
        self.kwargs = dict(arguments)
        for one in signature.parameters:
            if (
                one.injected is not None
                and (value := _resolve_injected(one.injected, one.default, injected)) is not EMPTY
            ):
                self.kwargs[one.name] = value
        self._positional = tuple(one for one in signature.parameters if one.positional_only)

    def invoke(self) -> Any:
        """Call the tool with its hooks. Return its value, or a coroutine of the value for an async tool.

        A sync tool blocks, so call this in a worker thread. The items of a generator are joined to one text. A plain
        function may return an awaitable too, for example a wrapper around an async function: the value is a coroutine
        then, to be awaited on a loop.
        """
        return self._invoke_async() if self.function.is_async else self._invoke_sync()

    def discard(self) -> None:
        """Close the coroutines of a plain function's result that are not going to be awaited."""
        for one in self._unstarted:
            if inspect.iscoroutine(one) and inspect.getcoroutinestate(one) == inspect.CORO_CREATED:
                one.close()

    def _invoke_sync(self) -> Any:
        if self.function.pre_hook is not None:
            self._call_hook(self.function.pre_hook)
        value = self._call()
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            self._unstarted = (value, self._finish_async(value))
            return self._unstarted[1]
        self.result = result_text(value) if isinstance(value, Iterator) else value
        if self.function.post_hook is not None:
            self._call_hook(self.function.post_hook)
        return self.result

    async def _invoke_async(self) -> Any:
        if self.function.pre_hook is not None:
            await _awaited(self._call_hook(self.function.pre_hook))
        return await self._finish_async(self._call())

    async def _finish_async(self, value: Any) -> Any:
        if inspect.isasyncgen(value):
            async with contextlib.aclosing(value) as pieces:
                value = "".join([result_text(piece) async for piece in pieces])
        else:
            value = await value
        self.result = result_text(value) if isinstance(value, Iterator) else value
        if self.function.post_hook is not None:
            await _awaited(self._call_hook(self.function.post_hook))
        return self.result

    async def invoke_isolated(self) -> Any:
        """Call a tool with isolation="process" in a worker process, and its hooks in a thread of this process.

        Raises:
            ToolError: an argument or the result can't be pickled, or the process died.
        """
        from desist.calls.process import run_in_process
        from desist.calls.thread_pool import run_in_thread

        function = self.function
        if (before := function.pre_hook) is not None:
            await run_in_thread(lambda: self._call_hook(before), name=function.name, interrupt=function.interrupt)
        args, named = self._arguments()
        pieces: list[str] = []
        self.result = await run_in_process(
            function.entrypoint,
            args,
            named,
            name=function.name,
            grace=function.grace,
            interrupt=function.interrupt,
            on_item=lambda piece: pieces.append(result_text(piece)),
        )
        if pieces:
            self.result = "".join(pieces)
        if (after := function.post_hook) is not None:
            await run_in_thread(lambda: self._call_hook(after), name=function.name, interrupt=function.interrupt)
        return self.result

    def _call(self) -> Any:
        args, named = self._arguments()
        return self.function.entrypoint(*args, **named)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs. A positional-only parameter before a passed one needs a value, too: its default."""
        named = dict(self.kwargs)
        args: list[Any] = []
        while self._positional[len(args) :] and any(one.name in named for one in self._positional[len(args) :]):
            one: Parameter = self._positional[len(args)]
            args.append(named.pop(one.name, one.default))
        return tuple(args), named

    def _call_hook(self, hook: Callable[..., Any]) -> Any:
        values: dict[str, Any] = {}
        for name, one in inspect.signature(hook).parameters.items():
            if name not in INJECTED:
                if one.default is EMPTY:
                    values[name] = self
            elif (value := _resolve_injected(name, one.default, self._injected)) is not EMPTY:
                values[name] = value
        return hook(**values)

    def __repr__(self) -> str:
        return f"<BoundCall {self.function.name}({', '.join(self.kwargs)})>"


def check_hook(hook: Callable[..., Any], tool: str, *, tool_is_async: bool) -> None:
    """Raise `ConfigurationError` for a hook that can't be called with its tool."""
    if not callable(hook):
        raise ConfigurationError(f"tool '{tool}': the hook {hook!r} is not callable")
    if is_async(hook) and not tool_is_async:
        raise ConfigurationError(f"tool '{tool}' is sync, so its hook {hook!r} must be sync, too")
    unnamed = [
        one for name, one in inspect.signature(hook).parameters.items() if name not in INJECTED and one.default is EMPTY
    ]
    if len(unnamed) > 1 or any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in unnamed):
        raise ConfigurationError(f"tool '{tool}': the hook {hook!r} may take the call and injected parameters only")


def _resolve_injected(key: str, default: Any, injected: Mapping[str, Any]) -> Any:
    """Return the value to inject: the run's value, the current token, EMPTY to keep the default, or None."""
    if key in injected:
        return injected[key]
    if key == "cancel_token":
        return current_token()
    return None if default is EMPTY else EMPTY


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
