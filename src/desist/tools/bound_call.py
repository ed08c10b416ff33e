"""One call of a tool, its arguments checked and filled in, ready to be made. Made by `Function.bind`.

Whatever the tool raises passes through: the agent knows what to do with it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from desist.cancel.token import current_token
from desist.exceptions import ConfigurationError, ToolError
from desist.tools.result import result_text
from desist.tools.signature import EMPTY, INJECTED, Parameter, Signature, is_async
from desist.tools.spec import ToolSpec

__all__ = ["BoundCall", "check_hook"]


class BoundCall:
    """A call that can be made once. `arguments` is what the model passed, `kwargs` all that the tool gets.

    `result` is what the tool returned, for a `post_hook`.
    """

    __slots__ = ("_injected", "_positional", "arguments", "function", "kwargs", "result")

    def __init__(
        self, function: ToolSpec, signature: Signature, arguments: dict[str, Any], injected: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.result: Any = None
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
        """Call the tool with its hooks.

        A sync tool is called right here, so call this in a worker thread; it returns the value. An async tool gives a
        coroutine of the value. The pieces of a generator are joined to one text.

        Raises:
            ToolError: a plain function returned something to await.
        """
        return self._invoke_async() if self.function.is_async else self._invoke_sync()

    def _invoke_sync(self) -> Any:
        if self.function.pre_hook is not None:
            self._call_hook(self.function.pre_hook)
        value = self._call()
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            if inspect.iscoroutine(value):
                value.close()
            raise ToolError(
                f"tool '{self.function.name}' is a plain function that returned {type(value).__name__}: "
                "make it an async def"
            )
        self.result = result_text(value) if isinstance(value, Iterator) else value
        if self.function.post_hook is not None:
            self._call_hook(self.function.post_hook)
        return self.result

    async def _invoke_async(self) -> Any:
        if self.function.pre_hook is not None:
            await _awaited(self._call_hook(self.function.pre_hook))
        value = self._call()
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
        """Call a tool that has isolation="process" in a worker process; its hooks run here, in a thread.

        Raises:
            ToolError: something can't be pickled, or the process died.
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
        """Return what is given. A positional-only parameter before one that is given needs its value too."""
        named = dict(self.kwargs)
        args: list[Any] = []
        while self._positional[len(args) :] and any(one.name in named for one in self._positional[len(args) :]):
            one: Parameter = self._positional[len(args)]
            args.append(named.pop(one.name, one.default))
        return tuple(args), named

    def _call_hook(self, hook: Callable[..., Any]) -> Any:
        given: dict[str, Any] = {}
        for name, one in inspect.signature(hook).parameters.items():
            if name not in INJECTED:
                if one.default is EMPTY:
                    given[name] = self
            elif (value := _resolve_injected(name, one.default, self._injected)) is not EMPTY:
                given[name] = value
        return hook(**given)

    def __repr__(self) -> str:
        return f"<BoundCall {self.function.name}({', '.join(self.kwargs)})>"


def check_hook(hook: Callable[..., Any], tool: str, *, tool_is_async: bool) -> None:
    """Raise `ConfigurationError` for a hook that couldn't be called around its tool."""
    if not callable(hook):
        raise ConfigurationError(f"tool '{tool}': the hook {hook!r} can't be called")
    if is_async(hook) and not tool_is_async:
        raise ConfigurationError(f"tool '{tool}' is sync, so its hook {hook!r} can't be async")
    asked = [
        one for name, one in inspect.signature(hook).parameters.items() if name not in INJECTED and one.default is EMPTY
    ]
    if len(asked) > 1 or any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in asked):
        raise ConfigurationError(f"tool '{tool}': the hook {hook!r} may take one call and what desist fills in")


def _resolve_injected(key: str, default: Any, injected: Mapping[str, Any]) -> Any:
    """Return what desist fills in: what the run has, else the current token, the default (as EMPTY), or None."""
    if key in injected:
        return injected[key]
    if key == "cancel_token":
        return current_token()
    return None if default is EMPTY else EMPTY


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
