"""The body of an agent's run: turn after turn until the model has answered. How it ends is the run's to decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.agent.model_turn import ModelTurn
from desist.agent.structured_output import parse_answer
from desist.agent.system_message import system_message
from desist.agent.terminal_events import cancelled, completed, failed
from desist.agent.tool_calls import ToolCallBatch
from desist.models.base import ModelRequest
from desist.run.agent import (
    RunContentCompletedEvent,
    RunInput,
    RunOutput,
    RunStartedEvent,
    ToolCallCancelledEvent,
)
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.execution.cleanup import CleanupHook, bind_hook
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.context import RunContext
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.history import messages_of_runs
from desist.run.outputs.input import input_text
from desist.run.records.message import CANCELLED_RESULT, Message, ToolExecution
from desist.run.records.metrics import RunMetrics, Usage
from desist.run.records.state_copy import copy_state
from desist.run.records.tool_results import missing_tool_results, normalize_history
from desist.run.storage.store import SessionUpdate, read

if TYPE_CHECKING:
    from desist.agent.agent import Agent
    from desist.run.execution.run import Run
    from desist.tools.function import Function

__all__ = ["AgentRunBody"]


class AgentRunBody:
    """One run of an agent: what was asked, what was said, what was called."""

    kind = "agent"

    def __init__(
        self, agent: Agent, input: Any, parent: ParentContext, *, has_reader: bool, stream_events: bool
    ) -> None:
        self.agent = agent
        self.input = input
        self.place = parent
        self.has_reader = has_reader  #: whether anybody sees pieces of text
        self.stream_events = stream_events
        self.first_event_index = 0
        self.attempt = 1  #: how often it was begun
        self.model = agent.require_model()
        self.stall_timeout = agent.stall_timeout
        self.functions: dict[str, Function] = agent.functions()
        self.messages: list[Message] = []
        self.executions: list[ToolExecution] = []
        self.metrics = RunMetrics()
        self._began_at = time.monotonic()
        self.turn: ModelTurn | None = None
        self.tool_calls = 0
        self.on_cancel: Callable[..., Any] | None = None  #: of this run alone
        self.in_session: SessionBinding | None = None  #: None inside a workflow, whose session it is
        self.add_history = agent.add_history_to_context
        self.add_state = agent.add_session_state_to_context
        self.history: list[Message] = []  #: what was said in earlier runs; told, and not recorded again
        self.earlier: list[Message] = []  #: of a run that was stopped, and that this one goes on with
        self._began_at = time.monotonic()
        self.common: dict[str, Any] = {}
        self.output = RunOutput(
            agent_id=agent.id,
            agent_name=agent.name,
            session_id=parent.session_id,
            parent_run_id=parent.workflow_run_id,
            workflow_id=parent.workflow_id,
            user_id=parent.user_id,
            input=RunInput(input_content=input),
            model=self.model.id,
            model_provider=self.model.provider,
            messages=self.messages,
            metrics=self.metrics,
            tools=self.executions,
            metadata=parent.metadata,
            workflow_step_id=parent.step_id,
            status=RunStatus.pending,
        )

    def continue_from(self, earlier: RunOutput) -> None:
        """Go on after the last tool result of a run that was stopped. Without one there is nothing to go on from."""
        messages = normalize_history(earlier.messages or [])
        last = max((place for place, message in enumerate(messages) if message.role == "tool"), default=-1)
        self.earlier = messages[: last + 1]
        self.output.continued_from = earlier.run_id

    def bind_run_id(self, run_id: str, parent_run_id: str | None) -> None:
        """The run's id is known: every event carries it."""
        self.output.run_id = run_id
        self.output.parent_run_id = parent_run_id
        self.common = {
            "agent_id": self.agent.id,
            "agent_name": self.agent.name or "",
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "session_id": self.place.session_id,
            "workflow_id": self.place.workflow_id,
            "workflow_run_id": self.place.workflow_run_id,
            "step_id": self.place.step_id,
            "step_name": self.place.step_name,
            "step_index": self.place.step_index,
            "nested_depth": self.place.nested_depth,
        }

    @property
    def session(self) -> SessionUpdate | None:
        """What the run changes in its session."""
        return self.in_session.update if self.in_session is not None else None

    # -- the work

    def start_event(self) -> RunStartedEvent:
        """Return the first event."""
        return RunStartedEvent(**self.common, model=self.model.id, model_provider=self.model.provider or "")

    async def execute(self, run: Run) -> None:
        """Answer, trying again where that may help."""
        agent = self.agent
        pause = agent.delay_between_retries
        await self._load_history(run)
        for attempt in range(agent.retries + 1):
            self.attempt = attempt + 1
            try:
                await self._run_attempt(run)
                return
            except Exception as error:
                if attempt == agent.retries or not getattr(error, "retryable", False):
                    raise
            await asyncio.sleep(pause)
            if agent.exponential_backoff:
                pause *= 2
            run.commit(self._reset_attempt)
            run.checkpoint("again", None)

    async def _load_history(self, run: Run) -> None:
        """Take the session's state, and what was said in it. Nothing has been asked yet: a cancel ends it at once."""
        place, agent = self.place, self.agent
        if self.in_session is not None:
            await self.in_session.load(run.store)
        if not self.add_history or place.new_session or place.session_id is None:
            return
        session_id, limit, store = place.session_id, agent.num_history_runs, run.store
        runs = await read(store, lambda: store.session_runs(session_id, kind="agent", owner_id=agent.id, limit=limit))
        outputs = [stored.output for stored in runs if stored.run_id != self.output.continued_from]
        self.history = messages_of_runs(outputs)

    def _reset_attempt(self) -> None:
        self.messages.clear()
        self.executions.clear()
        self.turn = None

    async def _run_attempt(self, run: Run) -> None:
        first = self.earlier or await self._first_messages(run)
        run.commit(lambda: self.messages.extend(first))
        for message in first:
            run.checkpoint("message", message)
        schema = self.agent.output_schema
        request = ModelRequest(
            messages=self.messages,
            tools=[function.definition() for function in self.functions.values()],
            tool_choice=self.agent.tool_choice if self.functions else None,
            response_format=schema,
        )
        answer = await self._turns(run, request)
        content = answer.content or ""
        result = content if schema is None else parse_answer(schema, content)
        kind = "str" if schema is None else getattr(schema, "__name__", "dict")

        def record() -> None:
            self.output.content, self.output.content_type = result, kind
            self.output.reasoning_content = answer.reasoning_content

        run.emit(RunContentCompletedEvent(**self.common), record)

    async def _first_messages(self, run: Run) -> list[Message]:
        """Return what the conversation begins with."""
        system = await system_message(self.agent, self.context(run), self.functions, add_state=self.add_state)
        asked = Message("user", input_text(self.input))
        return [system, asked] if system else [asked]

    async def _turns(self, run: Run, request: ModelRequest) -> Message:
        """Ask, carry out what the model wants, and ask again, until it wants nothing more."""
        while True:
            turn = ModelTurn(self, run)
            request.messages = self.model_messages()
            answer = await turn.request(request)
            run.commit(lambda said=answer: self._add_answer(said))  # type: ignore[misc]
            run.checkpoint("message", answer)
            if not answer.tool_calls:
                return answer
            calls = ToolCallBatch(self, run)
            await calls.execute_all(answer.tool_calls)
            if calls.stop:
                shown = [e.result for e in self.executions if e.result and e.tool_call_error is False]
                return Message("assistant", shown[-1] if shown else answer.content)

    def model_messages(self) -> list[Message]:
        """Return what the model is told: the system message, earlier runs, this run."""
        own = self.messages
        cut = 1 if own and own[0].role == "system" else 0
        return [*own[:cut], *self.history, *own[cut:]]

    def _add_answer(self, answer: Message) -> None:
        self.messages.append(answer)
        self.turn = None

    def count(self, usage: Usage, first: float | None) -> None:
        """Count one model call."""
        self.metrics.add(usage)
        self.metrics.model_calls += 1
        if self.metrics.time_to_first_token is None:
            self.metrics.time_to_first_token = first

    def context(self, run: Run) -> RunContext:
        """Return what tools and instructions may know of this run."""
        place = self.place
        return RunContext(
            run_id=run.run_id,
            session_id=place.session_id,
            user_id=place.user_id,
            workflow_id=place.workflow_id,
            workflow_name=place.workflow_name,
            workflow_run_id=place.workflow_run_id,
            session_state=place.session_state,
            dependencies=place.dependencies,
            metadata=place.metadata,
            cancel_token=run.token,
        )

    def injected(self, run: Run) -> dict[str, Any]:
        """Return the parameters of tools that desist fills in, by name."""
        return {
            "agent": self.agent,
            "team": None,
            "run_context": self.context(run),
            "cancel_token": run.token,
            "session_state": self.place.session_state,
            "dependencies": self.place.dependencies,
            "images": None,
            "videos": None,
            "audio": None,
            "files": None,
        }

    # -- the end

    def partial_content(self) -> str | None:
        """Return the text that has come by now."""
        said = [message.content for message in self.messages if message.role == "assistant" and message.content]
        return "".join([*said, *(self.turn.text if self.turn is not None else ())]) or None

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the closing events."""
        output = self.output
        output.session_state = copy_state(self.place.session_state) or None
        if self.in_session is not None:
            self.in_session.conclude()
        self.metrics.tool_calls = len(self.executions)
        self.metrics.duration = time.monotonic() - self._began_at
        if status is RunStatus.completed:
            return [completed(output, self.common)]
        closing = self._close_conversation(status)
        if status is RunStatus.cancelled:
            return [*closing, cancelled(output, self.common)]
        assert error is not None
        output.error = str(error) or type(error).__name__
        output.content = output.content or output.error
        return [*closing, failed(output, self.common, type(error).__name__)]

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return what is to be done: for interrupted tools, the agent's own, the run's own."""
        place, agent = self.place, self.agent
        known = {"session_state": place.session_state, "dependencies": place.dependencies, "record": self.output.cancel}
        due: list[CleanupHook] = []
        for execution in reversed(self.executions):
            function = self.functions.get(execution.tool_name or "")
            if function is not None and function.on_cancel is not None and execution.ended_at is None:
                due.append(bind_hook(function.name, "on_cancel", function.on_cancel, execution, known))
        for wanted, name in ((agent.on_cancel, agent.name or agent.id), (self.on_cancel, "run")):
            if wanted is not None:
                due.append(bind_hook(name, "on_cancel", wanted, self.output, known))
        return due

    def _close_conversation(self, status: RunStatus) -> list[Any]:
        """Keep what was said so far, give every open call an end, and return the events of those that had begun."""
        cancelled = status is RunStatus.cancelled
        if self.turn is not None:
            partial = self.turn.message(cancelled=cancelled)
            partial.tool_calls = None  # half a call can't be told to any model
            if partial.content:
                self.messages.append(partial)
            self.turn = None
        if self.output.content is None:
            self.output.content = self.partial_content()
        self._close_executions()
        self.messages.extend(missing_tool_results(self.messages, CANCELLED_RESULT))
        if not cancelled:
            return []
        record = self.output.cancel
        self.output.cancellation_stage = CancellationStage.executing if self.messages else CancellationStage.pending
        return [
            ToolCallCancelledEvent(**self.common, tool=execution, reason=record.reason if record else None)
            for execution in self.executions
            if execution.cancelled and execution.started_at is not None
        ]

    def _close_executions(self) -> None:
        """Finished calls keep their results, told or not; the others are marked."""
        record = self.output.cancel
        given_up = {item.name for item in record.abandoned} if record else set()
        told = {message.tool_call_id for message in self.messages if message.role == "tool"}
        for execution in self.executions:
            if execution.ended_at is None:
                execution.cancelled, execution.result = True, CANCELLED_RESULT
                execution.abandoned = execution.tool_name in given_up
            elif execution.tool_call_id not in told:
                self.messages.append(
                    Message(
                        "tool",
                        execution.result,
                        tool_call_id=execution.tool_call_id,
                        tool_name=execution.tool_name,
                        tool_call_error=bool(execution.tool_call_error),
                    )
                )

    def waits(self) -> list[str]:
        """Return what it waits for, if that is the model. For who looks at live runs."""
        return [self.turn.describe_wait()] if self.turn is not None else []

    def describe_activity(self) -> str:
        """Return the names of the tools that run, or what is waited for."""
        tools = [e.tool_name or "" for e in self.executions if e.started_at is not None and e.ended_at is None]
        return ", ".join(tools or self.waits())

    def enable_all_events(self) -> None:
        """Show everything: it is recorded, for whoever follows from another process."""
        self.has_reader = self.stream_events = True

    def is_visible(self, event: Any) -> bool:
        """Whether the reader sees an event: text and the end always, everything with `stream_events`."""
        return self.stream_events or event.is_content or event.is_terminal
