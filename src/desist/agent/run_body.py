"""The body of an agent's run: turn after turn until the model has answered. The run decides how it ends."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from desist.agent.config import AgentConfig
from desist.agent.conversation import Conversation
from desist.agent.model_turn import ModelTurn
from desist.agent.paused_calls import describe_waiting, stored_requirements
from desist.agent.resume import AgentResume, stopped_answer
from desist.agent.structured_output import parse_answer
from desist.agent.system_message import system_message
from desist.agent.terminal_events import cancelled, completed, failed, paused
from desist.agent.tool_calls import ToolCallBatch, result_message
from desist.exceptions import ModelResponseError
from desist.models.base import ModelRequest
from desist.models.finish_reason import calls_cut_off
from desist.run.agent import (
    RunContentCompletedEvent,
    RunContinuedEvent,
    RunInput,
    RunOutput,
    RunStartedEvent,
    ToolCallCancelledEvent,
)
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.execution.cleanup import CleanupHook, bind_hook
from desist.run.execution.pausing import PauseRun
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.context import RunContext
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.history import messages_of_runs
from desist.run.outputs.input import input_text
from desist.run.records.json_values import error_text
from desist.run.records.message import CANCELLED_RESULT, NOT_CALLED_RESULT, Message
from desist.run.records.requirement import Requirement
from desist.run.records.run_requirement import RunRequirement
from desist.run.records.state_copy import copy_state
from desist.run.records.tool_results import missing_tool_results, normalize_history
from desist.run.storage.store import SessionUpdate, read

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["AgentRunBody"]

CUT_OFF_ANSWERS = 3  #: so many answers in a row may hold nothing but calls that are cut off


class AgentRunBody:
    """One run of an agent: its input, its conversation and its output."""

    kind = "agent"

    def __init__(
        self, config: AgentConfig, input: Any, parent: ParentContext, *, has_reader: bool, stream_events: bool
    ) -> None:
        self.config = config
        self.input = input
        self.parent = parent
        self.has_reader = has_reader  #: whether the stream has a reader, who gets text
        self.stream_events = stream_events
        self.first_event_index = 0
        self.attempt = 1
        self.conversation = Conversation()
        self.turn: ModelTurn | None = None  #: the request that is under way
        self.on_cancel: Callable[..., Any] | None = None  #: of this run alone, from the options of `run`
        self.in_session: SessionBinding | None = None  #: None inside a workflow, which owns the session
        self.add_history = config.add_history_to_context
        self.add_state = config.add_session_state_to_context
        self.earlier: list[Message] = []  #: of the run that this one continues
        self.resumed: AgentResume | None = None  #: set if a paused run goes on
        self.pending: list[RunRequirement] = []  #: what the run waits for, when it pauses
        self.waiting: list[Requirement] = []  #: the same, for the store
        self._spent = 0.0  #: seconds before the pause
        self._began_at = time.monotonic()
        self.output = RunOutput(
            agent_id=config.id,
            agent_name=config.name,
            session_id=parent.session_id,
            parent_run_id=parent.workflow_run_id,
            workflow_id=parent.workflow_id,
            user_id=parent.user_id,
            input=RunInput(input_content=input),
            model=config.model.id,
            model_provider=config.model.provider,
            messages=self.conversation.messages,
            metrics=self.conversation.metrics,
            tools=self.conversation.executions,
            metadata=parent.metadata,
            workflow_step_id=parent.step_id,
            status=RunStatus.pending,
        )

    def continue_from(self, earlier: RunOutput) -> None:
        """Start after the last tool result of an earlier run; without a tool result, start from the input again."""
        messages = normalize_history(earlier.messages or [])
        last = max((index for index, message in enumerate(messages) if message.role == "tool"), default=-1)
        self.earlier = messages[: last + 1]
        self.output.continued_from = earlier.run_id

    def resume_from(self, paused: RunOutput, answers: Sequence[Requirement], first_event: int) -> None:
        """Go on with a paused run, as the answers say."""
        self.resumed = AgentResume(self.conversation, paused, answers)
        self.first_event_index = first_event
        self._spent = (paused.metrics.duration or 0.0) if paused.metrics is not None else 0.0
        output = self.output
        output.created_at, output.continued_from = paused.created_at, paused.continued_from
        output.requirements = self.resumed.requirements
        output.metrics = self.conversation.metrics

    def bind_run_id(self, run_id: str, parent_run_id: str | None) -> None:
        """Set the ids that the output and all events of the run carry."""
        self.output.run_id = run_id
        self.output.parent_run_id = parent_run_id
        self.conversation.common = {
            "agent_id": self.config.id,
            "agent_name": self.config.name or "",
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "session_id": self.parent.session_id,
            "workflow_id": self.parent.workflow_id,
            "workflow_run_id": self.parent.workflow_run_id,
            "step_id": self.parent.step_id,
            "step_name": self.parent.step_name,
            "step_index": self.parent.step_index,
            "nested_depth": self.parent.nested_depth,
        }

    @property
    def common(self) -> dict[str, Any]:
        """The fields that all events of the run carry."""
        return self.conversation.common

    @property
    def session(self) -> SessionUpdate | None:
        """The change of the session that the run makes."""
        return self.in_session.update if self.in_session is not None else None

    # -- the work

    def start_event(self) -> RunStartedEvent | RunContinuedEvent:
        """Return the first event."""
        if self.resumed is not None:
            return RunContinuedEvent(**self.conversation.common)
        return RunStartedEvent(
            **self.conversation.common, model=self.config.model.id, model_provider=self.config.model.provider or ""
        )

    async def execute(self, run: Run) -> None:
        """Run the agent; start again after an error that says another attempt may help."""
        config = self.config
        delay = config.delay_between_retries
        await self._load_history(run)
        last: Message | None = None
        if self.resumed is not None:
            last = await self.resumed.make_calls(run, self._new_batch(run))
            self.earlier = list(self.conversation.messages)
        for attempt in range(config.retries + 1):
            self.attempt = attempt + 1
            try:
                await self._run_attempt(run, last)
                return
            except Exception as error:
                if attempt == config.retries or not getattr(error, "retryable", False):
                    raise
            await asyncio.sleep(delay)
            if config.exponential_backoff:
                delay *= 2
            run.commit(self._reset_attempt)
            run.checkpoint("again", None)

    async def _load_history(self, run: Run) -> None:
        """Load the state of the session, and the messages of its last runs."""
        parent, config = self.parent, self.config
        if self.in_session is not None:
            await self.in_session.load(run.store)
        if not self.add_history or parent.new_session or parent.session_id is None:
            return
        session_id, limit, store = parent.session_id, config.num_history_runs, run.store
        runs = await read(store, lambda: store.session_runs(session_id, kind="agent", owner_id=config.id, limit=limit))
        outputs = [cast(RunOutput, stored.output) for stored in runs if stored.run_id != self.output.continued_from]
        self.conversation.history = messages_of_runs(outputs)

    def _reset_attempt(self) -> None:
        self.conversation.reset()
        if self.resumed is not None:
            self.conversation.executions.extend(self.resumed.executions)
        self.turn = None

    async def _run_attempt(self, run: Run, last: Message | None = None) -> None:
        first = self.earlier or await self._first_messages(run)
        run.commit(lambda: self.conversation.messages.__setitem__(slice(None), first))
        for message in first:
            run.checkpoint("message", message)
        answer_type = self.config.answer_type
        request = ModelRequest(
            messages=self.conversation.messages,
            tools=[function.definition() for function in self.config.functions.values()],
            tool_choice=self.config.tool_choice if self.config.functions else None,
            response_format=answer_type.given if answer_type else None,
        )
        answer = last or await self._turns(run, request)
        content = answer.content or ""
        result = content if answer_type is None else parse_answer(answer_type, content)

        def record() -> None:
            self.output.content, self.output.content_type = result, type(result).__name__
            self.output.reasoning_content = answer.reasoning_content
            self.output.finish_reason = answer.finish_reason

        run.emit(RunContentCompletedEvent(**self.conversation.common), record)

    async def _first_messages(self, run: Run) -> list[Message]:
        """Return the first messages of the conversation."""
        system = await system_message(self.config, self.context(run), add_state=self.add_state)
        user = Message("user", input_text(self.input))
        return [system, user] if system else [user]

    async def _turns(self, run: Run, request: ModelRequest) -> Message:
        """Request an answer and run its tool calls, until an answer has none.

        Raises:
            ModelResponseError: the model makes only calls that are cut off.
        """
        in_vain = 0  # answers, one after the other, with no whole call
        while True:
            turn = self._new_turn(run)
            request.messages = self.conversation.model_messages()
            answer = await turn.request(request)
            run.commit(lambda answer=answer: self._add_answer(answer))  # type: ignore[misc]
            run.checkpoint("message", answer)
            if not answer.tool_calls:
                return answer
            cut_off = calls_cut_off(answer.tool_calls, answer.finish_reason)
            in_vain = in_vain + 1 if len(cut_off) == len(answer.tool_calls) else 0
            if in_vain > CUT_OFF_ANSWERS:
                raise ModelResponseError(
                    f"{in_vain} answers of the model, one after the other, ended early (finish reason"
                    f" {answer.finish_reason!r}) in a tool call: allow longer answers, or ask for less"
                )
            calls = self._new_batch(run)
            await calls.execute_all(answer.tool_calls, cut_off, answer.finish_reason)
            if calls.waiting:
                self._pause(run, calls.waiting)
            if calls.stop:
                return stopped_answer(self.conversation, answer.content)

    def _pause(self, run: Run, waiting: list[RunRequirement]) -> NoReturn:
        """Pause the run: all calls of the turn that could be made have ended."""
        stored = stored_requirements(waiting, self.config.functions, run.run_id, run.root.run_id)

        def record() -> None:
            self.pending, self.waiting = waiting, stored

        run.commit(record)
        raise PauseRun

    def continuer(self) -> None:
        """Continue the run, after a deadline has resolved what it waited for. In a thread of its own."""
        self.config.agent.continue_run(run_id=self.output.run_id)

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the output."""
        known = {one.requirement_id: one for one in requirements}
        for one in self.pending:
            if (found := known.get(one.id)) is not None and not found.is_open:
                one.apply(found)

    def _new_turn(self, run: Run) -> ModelTurn:
        return ModelTurn(
            self.config.model,
            run,
            self.conversation,
            on_started=lambda turn: setattr(self, "turn", turn),
            emits_text=self.has_reader,
            stall_timeout=self.config.stall_timeout,
        )

    def _new_batch(self, run: Run) -> ToolCallBatch:
        return ToolCallBatch(
            self.config.functions,
            run,
            self.conversation,
            injected=functools.partial(self.injected, run),
            attempt=self.attempt,
            limit=self.config.tool_call_limit,
        )

    def _add_answer(self, answer: Message) -> None:
        self.conversation.messages.append(answer)
        self.turn = None

    def context(self, run: Run) -> RunContext:
        """Return the run context that tools and instructions get."""
        return self.parent.run_context(run.run_id, self.parent.workflow_run_id, run.token)

    def injected(self, run: Run) -> dict[str, Any]:
        """Return the parameters of tools that desist fills in, by name."""
        return {
            "agent": self.config.agent,
            "team": None,
            "run_context": self.context(run),
            "cancel_token": run.token,
            "session_state": self.parent.session_state,
            "dependencies": self.parent.dependencies,
            "images": None,
            "videos": None,
            "audio": None,
            "files": None,
        }

    # -- the end

    def partial_content(self) -> str | None:
        """Return the text that has arrived so far."""
        messages = self.conversation.messages
        texts = [message.content for message in messages if message.role == "assistant" and message.content]
        return "".join([*texts, *(self.turn.text if self.turn is not None else ())]) or None

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the last events, the terminal one last."""
        output, metrics = self.output, self.conversation.metrics
        output.session_state = copy_state(self.parent.session_state) or None
        if self.in_session is not None:
            self.in_session.conclude()
        metrics.tool_calls = len(self.conversation.executions)
        metrics.duration = self._spent + time.monotonic() - self._began_at
        if status is RunStatus.completed:
            return [completed(output, self.conversation.common)]
        if status is RunStatus.paused:
            output.requirements = [*(output.requirements or []), *self.pending]
            output.content = describe_waiting(self.pending)
            return [paused(output, self.conversation.common, self.pending)]
        if self.pending:  # it was paused
            output.content = None
        closing = self._close_conversation(status)
        if status is RunStatus.cancelled:
            return [*closing, cancelled(output, self.conversation.common)]
        assert error is not None
        output.error = error_text(error)
        output.content = output.content or output.error
        return [*closing, failed(output, self.conversation.common, type(error).__name__)]

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return the hooks of interrupted tools, the last first, then the agent's hook, then the run's."""
        parent, config = self.parent, self.config
        known = {
            "session_state": parent.session_state,
            "dependencies": parent.dependencies,
            "record": self.output.cancel,
        }
        hooks: list[CleanupHook] = []
        for execution in reversed(self.conversation.executions):
            function = config.functions.get(execution.tool_name or "")
            begun = execution.ended_at is None and (execution.started_at is not None or not execution.is_paused)
            if function is not None and function.on_cancel is not None and begun:
                hooks.append(bind_hook(function.name, "on_cancel", function.on_cancel, execution, known))
        for hook, name in ((config.on_cancel, config.name or config.id), (self.on_cancel, "run")):
            if hook is not None:
                hooks.append(bind_hook(name, "on_cancel", hook, self.output, known))
        return hooks

    def _close_conversation(self, status: RunStatus) -> list[Any]:
        """Record the partial answer, and a result for every open call; return the events of begun calls."""
        messages = self.conversation.messages
        cancelled = status is RunStatus.cancelled
        if self.turn is not None:
            partial = self.turn.message(cancelled=cancelled)
            partial.tool_calls = None  # a model API refuses half a call
            if partial.content:
                messages.append(partial)
            self.turn = None
        if self.output.content is None:
            self.output.content = self.partial_content()
        self._close_executions()
        messages.extend(missing_tool_results(messages, CANCELLED_RESULT))
        if not cancelled:
            return []
        record = self.output.cancel
        began = CancellationStage.paused if self.pending else CancellationStage.executing
        self.output.cancellation_stage = began if messages else CancellationStage.pending
        return [
            ToolCallCancelledEvent(**self.conversation.common, tool=execution, reason=record.reason if record else None)
            for execution in self.conversation.executions
            if execution.cancelled and execution.started_at is not None
        ]

    def _close_executions(self) -> None:
        """Record the results of finished calls that no message has yet; mark the others as cancelled."""
        record, messages = self.output.cancel, self.conversation.messages
        abandoned = {item.name for item in record.abandoned} if record else set()
        recorded = {message.tool_call_id for message in messages if message.role == "tool"}
        for execution in self.conversation.executions:
            if execution.ended_at is None and execution.is_paused and execution.started_at is None:
                execution.cancelled, execution.result = True, NOT_CALLED_RESULT
                messages.append(replace(result_message(execution), cancelled=True))
            elif execution.ended_at is None:
                execution.cancelled, execution.result = True, CANCELLED_RESULT
                execution.abandoned = execution.tool_name in abandoned
            elif execution.tool_call_id not in recorded:
                messages.append(result_message(execution))

    def waits(self) -> list[str]:
        """Return a description of the model request that is under way, if any. For lists of live runs."""
        return [self.turn.describe_wait()] if self.turn is not None else []

    def describe_activity(self) -> str:
        """Return the names of the tools that run, or what the run waits for."""
        executions = self.conversation.executions
        tools = [e.tool_name or "" for e in executions if e.started_at is not None and e.ended_at is None]
        return ", ".join(tools or self.waits())

    def enable_all_events(self) -> None:
        """Emit all events: they are stored for readers in other processes. Call before the run starts."""
        self.has_reader = self.stream_events = True

    def is_visible(self, event: Any) -> bool:
        """Return whether the reader gets an event: text and the end always, all events with `stream_events`."""
        return self.stream_events or event.is_content or event.is_terminal or event.is_paused
