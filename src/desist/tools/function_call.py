"""A tool call without an agent, for programs and tests.

Agents don't use this: they also enforce timeouts and report cancelled and abandoned calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from desist.exceptions import AgentRunException, ToolError
from desist.run.records.json_values import error_text
from desist.tools.bound_call import BoundCall
from desist.tools.spec import ToolSpec

__all__ = ["FunctionCall", "FunctionExecutionResult"]


class BindableTool(ToolSpec, Protocol):
    """A tool whose arguments can be checked: a `Function`."""

    def bind(self, arguments: str | Mapping[str, Any] | None, injected: Mapping[str, Any] | None = None) -> BoundCall:
        """Check the arguments and return the call."""


@dataclass(slots=True)
class FunctionExecutionResult:
    """The outcome of a call: the tool's `result`, or the `error` as text."""

    status: Literal["success", "failure"]
    result: Any = None
    error: str | None = None


@dataclass(slots=True)
class FunctionCall:
    """One call of `function`. `arguments` are values or JSON text; `injected` are the injected values."""

    function: BindableTool
    arguments: Mapping[str, Any] | str | None = None
    call_id: str | None = None
    result: Any = None
    error: str | None = None
    injected: Mapping[str, Any] = field(default_factory=dict)

    def execute(self) -> FunctionExecutionResult:
        """Call a sync tool in this thread. No timeout is enforced here.

        Raises:
            ToolError: the tool is async.
            AgentRunException: raised by the tool to steer the agent.
        """
        if self.function.is_async:
            raise ToolError(f"tool '{self.function.name}' is async: use `await call.aexecute()`")
        try:
            call = self.function.bind(self.arguments, self.injected)
            value = call.invoke()
            if inspect.iscoroutine(value):
                call.discard()
                raise ToolError(f"tool '{self.function.name}' returned an awaitable: use `await call.aexecute()`")
            return self._succeeded(value)
        except AgentRunException:
            raise
        except Exception as error:
            return self._failed(error)

    async def aexecute(self) -> FunctionExecutionResult:
        """Call an async tool on this loop, a sync one in a worker thread. No timeout is enforced here.

        Raises:
            AgentRunException: raised by the tool to steer the agent.
        """
        from desist.calls.thread_pool import run_in_thread

        try:
            call = self.function.bind(self.arguments, self.injected)
            if self.function.is_async:
                return self._succeeded(await call.invoke())
            if self.function.isolation == "process":
                return self._succeeded(await call.invoke_isolated())
            interrupt = self.function.interrupt
            value = await run_in_thread(call.invoke, name=self.function.name, interrupt=interrupt)
            return self._succeeded(await value if inspect.iscoroutine(value) else value)
        except AgentRunException:
            raise
        except Exception as error:
            return self._failed(error)

    def _succeeded(self, result: Any) -> FunctionExecutionResult:
        self.result, self.error = result, None
        return FunctionExecutionResult("success", result)

    def _failed(self, error: Exception) -> FunctionExecutionResult:
        self.error = error_text(error)
        return FunctionExecutionResult("failure", error=self.error)
