"""The tool calls of one turn. They run in parallel, and each gets a result for the model, also if it fails."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from desist.agent.conversation import Conversation
from desist.agent.paused_calls import requirement_for, resolution_of
from desist.calls.dispatch import call_user_code
from desist.exceptions import RetryAgentRun, StopAgentRun, ToolError, TooManyAbandonedError
from desist.run.agent import ToolCallCompletedEvent, ToolCallErrorEvent, ToolCallStartedEvent
from desist.run.execution.parallel import run_parallel
from desist.run.options.idempotency import set_work_key, tool_call_keys
from desist.run.records.json_values import error_text
from desist.run.records.message import Message, ToolCall, ToolExecution
from desist.run.records.requirement import Requirement
from desist.run.records.run_requirement import RunRequirement
from desist.run.telemetry.gate import tool_span

if TYPE_CHECKING:
    from desist.run.execution.run import Run
    from desist.tools.bound_call import BoundCall
    from desist.tools.function import Function

__all__ = ["ToolCallBatch", "result_message"]


class ToolCallBatch:
    """Runs the tool calls that the model requested in one turn.

    Parameters:
        injected: returns the parameters that desist fills in, by name. Called once for each tool call.
        attempt: the number of the run's attempt, part of the idempotency keys.
        limit: how many tool calls the run may make; None for any number.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        run: Run,
        conversation: Conversation,
        *,
        injected: Callable[[], dict[str, Any]],
        attempt: int,
        limit: int | None,
    ) -> None:
        self.functions, self.run, self.conversation = functions, run, conversation
        self._injected, self._attempt, self._limit = injected, attempt, limit
        self._cut_off: dict[str, str | None] = {}  # finish reasons, by the ids of the calls that are cut off
        self.stop = False  #: whether a tool ends the run after this turn
        self._waiting: dict[int, RunRequirement] = {}  #: by the position of the call
        self._answers: dict[str, Requirement] = {}  #: to the calls of a continued run, by their ids

    async def execute_all(
        self, tool_calls: list[ToolCall], cut_off: Collection[str] = (), finish_reason: str | None = None
    ) -> None:
        """Run all calls and add their results to the messages, in the order of the calls.

        Parameters:
            cut_off: ids of the calls whose arguments may be incomplete. They are not run; their results say so.
            finish_reason: why the answer with the calls ended.
        """
        self._cut_off = dict.fromkeys(cut_off, finish_reason)
        executions = [self._execution(tool_call) for tool_call in tool_calls]
        self.run.commit(lambda: self.conversation.executions.extend(executions))
        await self._call_all(tool_calls, executions)
        results = [result_message(execution) for execution in executions if execution.ended_at is not None]
        self.run.commit(lambda: self.conversation.messages.extend(results))
        for result in results:
            self.run.checkpoint("message", result)

    async def resume_all(
        self, tool_calls: list[ToolCall], executions: list[ToolExecution], answers: Mapping[str, Requirement]
    ) -> None:
        """Make the calls of a continued run that were waiting, as the answers say. Their results aren't messages yet.

        Parameters:
            answers: by the ids of the calls.
        """
        self._answers = dict(answers)
        await self._call_all(tool_calls, executions)

    @property
    def waiting(self) -> list[RunRequirement]:
        """What calls of this turn wait for, in the order of the calls."""
        return [one for _, one in sorted(self._waiting.items())]

    async def _call_all(self, tool_calls: list[ToolCall], executions: list[ToolExecution]) -> None:
        pairs = list(zip(tool_calls, executions, strict=True))
        keys = [
            f"{self.run.key}:{name}:{self._attempt}" for name in tool_call_keys(tool_calls, self.conversation.messages)
        ]
        calls = [self._keyed(number, *pair, key) for number, (pair, key) in enumerate(zip(pairs, keys, strict=True))]
        await run_parallel(self.run, calls)

    def _execution(self, tool_call: ToolCall) -> ToolExecution:
        function = self.functions.get(tool_call.name)
        return ToolExecution(
            tool_call_id=tool_call.id,
            tool_name=tool_call.name,
            stop_after_tool_call=bool(function and function.stop_after_tool_call),
            show_result=bool(function and function.show_result),
        )

    async def _keyed(self, number: int, tool_call: ToolCall, execution: ToolExecution, key: str) -> None:
        await self.run.confirm_ownership()
        set_work_key(key)
        try:
            await self._one(number, tool_call, execution)
        finally:
            set_work_key(None)

    async def _one(self, number: int, tool_call: ToolCall, execution: ToolExecution) -> None:
        try:
            bound_call = self._resolve(number, tool_call, execution)
        except ToolError as error:
            self._failed(execution, error)
            return
        if bound_call is None:
            return
        function, bound = bound_call
        execution.tool_args = dict(bound.arguments)  # without the injected ones
        for meter in self.run.limits.meters:
            meter.tool_call()
        self.run.emit(
            ToolCallStartedEvent(**self.conversation.common, tool=execution),
            lambda: setattr(execution, "started_at", time.time()),
        )
        try:
            with tool_span(self.run.spans, function.name, tool_call.id):
                value = await self._invoke(function, bound)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.run.scope.accepts_results and task is not None and not task.cancelling():
                self._failed(execution, ToolError("the tool was cancelled from inside"))
                return
            raise
        except StopAgentRun as stop:
            self.stop = True
            self._completed(execution, str(stop))
        except RetryAgentRun as retry:
            self._completed(execution, str(retry))
        except TimeoutError as error:
            self._failed(execution, ToolError(str(error) or "the tool timed out"))
        except (Exception, SystemExit) as error:
            self._failed(execution, error)
        else:
            self._completed(execution, value)

    def _resolve(self, number: int, tool_call: ToolCall, execution: ToolExecution) -> tuple[Function, BoundCall] | None:
        """Return the call to make; None if it waits for a human, or an answer has its result.

        Raises:
            ToolError: the tool is not called; the message is for the model.
        """
        answer = self._answers.get(tool_call.id)
        if answer is not None:
            result, arguments = resolution_of(execution, answer)
            if result is not None:
                self._completed(execution, result)
                return None
            function = self.functions.get(tool_call.name)
            if function is None:
                raise ToolError(f"the tool {tool_call.name!r} does not exist any more: it was not called")
            return function, function.bind(arguments, self._injected())
        function = self._find(tool_call)
        if function.human.needed:
            requirement = requirement_for(function, tool_call.arguments, execution)
            self.run.commit(lambda: self._waiting.__setitem__(number, requirement))
            return None
        return function, function.bind(tool_call.arguments, self._injected())

    def _find(self, tool_call: ToolCall) -> Function:
        if tool_call.id in self._cut_off:
            raise ToolError(
                f"the answer ended early (finish reason {self._cut_off[tool_call.id]!r}), so the arguments of this call"
                " may be cut off: the tool was not called. Make the call again, with all of its arguments."
            )
        function = self.functions.get(tool_call.name)
        if function is None:
            names = ", ".join(sorted(self.functions)) or "none"
            raise ToolError(f"there is no tool named {tool_call.name!r}; the tools are: {names}")
        self.conversation.tool_calls += 1
        if self._limit is not None and self.conversation.tool_calls > self._limit:
            raise ToolError(f"the limit of {self._limit} tool calls is reached: answer with what you have")
        return function

    async def _invoke(self, function: Function, bound: BoundCall) -> str:
        """Call the tool in a thread, on the loop or in a process, and return its result as text."""
        from desist.tools.result import result_text

        limit = function.timeout
        try:
            async with asyncio.timeout(limit):
                how: dict[str, Any] = {"name": function.name, "interrupt": function.interrupt}
                if function.is_async:
                    return result_text(await call_user_code(bound.invoke, is_async=True, **how))
                if function.isolation == "process":
                    return result_text(await bound.invoke_isolated())

                def call() -> Any:  # the text is made in the thread too
                    value = bound.invoke()
                    return value if inspect.iscoroutine(value) else result_text(value)

                try:
                    made = await call_user_code(call, is_async=False, **how)
                    if inspect.iscoroutine(made):  # a wrapper around an async function
                        made = result_text(await call_user_code(lambda: made, is_async=True, **how))
                    return str(made)
                finally:
                    bound.discard()
        except TimeoutError as error:
            if limit is not None and not str(error):
                raise TimeoutError(f"the tool {function.name!r} took longer than its timeout of {limit:g} s") from None
            raise

    def _completed(self, execution: ToolExecution, text: str) -> None:
        def record() -> None:
            execution.result, execution.tool_call_error, execution.ended_at = text, False, time.time()

        self.run.emit(ToolCallCompletedEvent(**self.conversation.common, tool=execution, content=text), record)
        self.run.checkpoint("tool", execution)
        self.stop = self.stop or execution.stop_after_tool_call

    def _failed(self, execution: ToolExecution, error: BaseException) -> None:
        message = error_text(error)
        text = message if isinstance(error, ToolError | TooManyAbandonedError) else f"{type(error).__name__}: {message}"

        def record() -> None:
            execution.result, execution.tool_call_error, execution.ended_at = text, True, time.time()

        self.run.emit(ToolCallErrorEvent(**self.conversation.common, tool=execution, error=text), record)
        self.run.checkpoint("tool", execution)


def result_message(execution: ToolExecution) -> Message:
    """Return the result of a tool call, for the model."""
    return Message(
        "tool",
        execution.result,
        tool_call_id=execution.tool_call_id,
        tool_name=execution.tool_name,
        tool_call_error=bool(execution.tool_call_error),
    )
