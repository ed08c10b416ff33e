"""The body of a workflow's run: its steps, or its function. The run decides how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from desist.run.agent import BaseAgentRunEvent, RunOutput
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.events.containers import RouterPausedEvent
from desist.run.events.steps import StepExecutorPausedEvent, StepOutputReviewEvent, StepPausedEvent
from desist.run.execution.cleanup import CleanupHook, bind_hook
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.parent_context import ParentContext
from desist.run.records.json_values import error_text
from desist.run.records.requirement import Requirement
from desist.run.storage.values import SessionUpdate
from desist.run.workflow import (
    StepOutputEvent,
    WorkflowCompletedEvent,
    WorkflowMetrics,
    WorkflowRunOutput,
    WorkflowStartedEvent,
)
from desist.workflow.config import WorkflowConfig
from desist.workflow.execution import Runnable, WorkflowExecution
from desist.workflow.metrics import metrics_of
from desist.workflow.sequence import run_sequence
from desist.workflow.sessions import EarlierRuns
from desist.workflow.step_pauses import StepPauses
from desist.workflow.step_state import StepState
from desist.workflow.terminal_events import cancelled, completed, failed, paused
from desist.workflow.types import MEDIA, StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["WorkflowRunBody"]

#: The events that say what a step waits for.
PAUSE_EVENTS = (
    StepPausedEvent,
    StepExecutorPausedEvent,
    StepOutputReviewEvent,
    RouterPausedEvent,
)


class WorkflowRunBody:
    """One run of a workflow."""

    kind = "workflow"

    def __init__(
        self,
        config: WorkflowConfig,
        step_input: StepInput,
        parent: ParentContext,
        *,
        has_reader: bool,
        stream_events: bool,
        earlier_outputs: Sequence[StepOutput | dict[str, Any]] = (),
    ) -> None:
        self.config = config
        self.step_input = step_input
        self.parent = parent
        self.has_reader = has_reader
        self.stream_events = stream_events
        self.first_event_index = 0
        #: Outputs of the run that this one continues: finished steps are reused.
        self.earlier_outputs = _step_outputs(earlier_outputs)
        self.earlier_runs: Mapping[str, RunOutput] = {}  #: outputs of agents of that run, by run id
        self.progress = StepState({}, StepType.WORKFLOW.value)
        self.made: StepOutput | None = None  #: the output of a workflow function
        self.common: dict[str, Any] = {}
        self.child_runs: list[Any] = []
        self.started_steps: list[tuple[Runnable, StepState]] = []
        self.on_cancel: Callable[..., Any] | None = None  #: of this run alone, from the options of `run`
        self.pauses = StepPauses()
        self.resumed = False  #: whether a paused run goes on
        self.resumable, self.durability = config.resumable, config.durability
        self.in_session: SessionBinding | None = None
        stores = config.store_events and parent.step_id is None  # the events of a nested run are the outer run's
        self.on_event = self._record_event if stores else None
        self._began_at = time.monotonic()
        self.output = WorkflowRunOutput(
            input=step_input.input,
            workflow_id=config.id,
            workflow_name=config.name,
            session_id=parent.session_id,
            user_id=parent.user_id,
            metadata=parent.metadata,
            additional_data=step_input.additional_data,
            workflow_step_id=parent.step_id,
            step_results=self.progress.done,
            events=[] if stores else None,
            status=RunStatus.pending,
        )

    def continue_from(self, earlier: WorkflowRunOutput) -> None:
        """Reuse the finished steps of an earlier run, and the conversations of its agents."""
        self.earlier_outputs = _with_inner(_step_outputs(earlier.step_results), earlier)
        self.earlier_runs = {run.run_id: run for run in _agent_runs(earlier) if run.run_id is not None}
        self.output.continued_from = earlier.run_id

    def resume_from(self, paused: WorkflowRunOutput, answers: Sequence[Requirement]) -> None:
        """Go on with a paused run, as the answers say. After `continue_from`."""
        self.resumed = True
        steps, errors = paused.step_requirements or [], paused.error_requirements or []
        self.pauses.resume(paused.run_id or "", steps, errors, answers)
        output = self.output
        output.continued_from, output.created_at = paused.continued_from, paused.created_at
        output.step_requirements, output.error_requirements = self.pauses.steps or None, self.pauses.errors or None

    @property
    def waiting(self) -> list[Requirement]:
        """What the run waits for, for the store."""
        return self.pauses.waiting

    def apply_answers(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the output."""
        self.pauses.apply(requirements)

    def continuer(self) -> None:
        """Continue the run, after a deadline has resolved what it waited for. In a thread of its own."""
        workflow: Any = self.config.workflow
        workflow.continue_run(run_id=self.output.run_id)

    def bind_run_id(self, run_id: str, parent_run_id: str | None) -> None:
        """Set the ids that the output and all events of the run carry."""
        self.output.run_id = run_id
        self.output.parent_run_id = parent_run_id
        self.common = {
            "workflow_id": self.config.id,
            "workflow_name": self.config.name,
            "session_id": self.parent.session_id,
            "run_id": run_id,
            "parent_step_id": self.parent.step_id,
            "nested_depth": self.parent.nested_depth,
        }

    @property
    def session(self) -> SessionUpdate | None:
        """The change of the session that the run makes."""
        return self.in_session.update if self.in_session is not None else None

    def start_event(self) -> WorkflowStartedEvent:
        """Return the first event."""
        return WorkflowStartedEvent(**self.common)

    async def execute(self, run: Run) -> None:
        """Run the steps."""
        parent = self.parent
        if self.in_session is not None:
            await self.in_session.load(run.store)
        self.step_input.workflow_session = EarlierRuns(run.store, parent)
        context = parent.run_context(run.run_id, parent.workflow_run_id or run.run_id, run.token)
        flow = WorkflowExecution(
            run,
            parent,
            context,
            self.common,
            self.has_reader and self.config.stream_executor_events,
            self.stream_events,
            history=self.config.history,
            earlier_runs=self.earlier_runs,
            child_runs=self.child_runs,
            started_steps=self.started_steps,
            pauses=self.pauses,
        )
        program = self.config.program
        if program is None:
            await run_sequence(
                self.config.steps, self.step_input, flow, self.progress, earlier_outputs=self.earlier_outputs
            )
            return
        self.progress.common = {**self.common, "step_name": self.config.name}
        made = await program.run(self.config.workflow, self.step_input, flow, self.progress)
        run.commit(lambda: setattr(self, "made", made))

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the last events, the terminal one last."""
        output = self.output
        if self.in_session is not None:
            self.in_session.conclude()
        events: list[Any] = []
        if status is RunStatus.paused:
            return self._paused()
        if status is not RunStatus.completed:
            events = self._cancelled() if status is RunStatus.cancelled else self._failed(error)
        if self.config.store_executor_outputs:
            output.step_executor_runs = self._executor_runs()
        output.metrics = self._metrics()
        if status is RunStatus.completed:
            events = [self._completed()]
        if self.on_event is not None:
            for event in events:
                self.on_event(event)
        return events

    def _executor_runs(self) -> list[Any] | None:
        """Return the outputs of the runs that did the work of steps, in this run and in the steps that it reused."""
        known = set(_run_ids(self.progress.done)) - {run.run_id for run in self.child_runs}
        reused = [run for run_id, run in self.earlier_runs.items() if run_id in known]
        return [*reused, *self.child_runs] or None

    def _paused(self) -> list[Any]:
        """Finish the output of a run that waits for a human; return its last event."""
        output = self.output
        self.progress.merge_branches()
        self.progress.close_paused()
        self.progress.done.extend(self.earlier_outputs[len(self.progress.done) :])  # not reached yet
        output.step_requirements, output.error_requirements = self.pauses.steps or None, self.pauses.errors or None
        output.step_executor_runs = self._executor_runs()  # they are needed to go on
        last = self.pauses.new[-1]
        index = last.step_index[0] if isinstance(last.step_index, tuple | list) else last.step_index
        output.paused_step_index, output.paused_step_name = index, last.step_name
        output.pause_kind = "executor" if getattr(last, "requires_executor_input", False) else "step"
        output.metrics = self._metrics()
        names = ", ".join(repr(one.step_name) for one in self.pauses.new)
        output.content = f"The run is paused. These steps wait for a human: {names}."
        event = paused(output, self.common)
        if self.on_event is not None:
            self.on_event(event)
        return [event]

    def _metrics(self) -> WorkflowMetrics:
        return WorkflowMetrics(steps=metrics_of(self.progress.done), duration=time.monotonic() - self._began_at)

    def _completed(self) -> WorkflowCompletedEvent:
        output = self.output
        last = self.made or (self.progress.done[-1] if self.progress.done else None)
        output.content = last.content if last else None
        output.content_type = type(output.content).__name__
        for kind in MEDIA:
            made = [item for step in (*self.progress.done, self.made) if step for item in getattr(step, kind) or ()]
            setattr(output, kind, made or None)
        return completed(output, self.common)

    def _cancelled(self) -> list[Any]:
        output, record = self.output, self.output.cancel
        reason = record.reason if record else None
        began = bool(self.progress.done or self.progress.open)
        output.cancellation_stage = CancellationStage.executing if began else CancellationStage.pending
        waited = output.paused_step_name is not None or self.pauses.rejected
        if waited:
            output.cancellation_stage = CancellationStage.paused
            for step in self.progress.done:
                step.end_pause()
        closing = self._close_open(reason)
        return [*closing, cancelled(output, self.common)]

    def _failed(self, error: BaseException | None) -> list[Any]:
        assert error is not None
        message = error_text(error)
        self._close_open(message)
        self.output.error = message
        self.output.content = self.output.content if self.output.content is not None else message
        return [failed(self.output, self.common, type(error).__name__)]

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return the hooks of interrupted steps, the compensations, the workflow's hook and the run's."""
        parent, config = self.parent, self.config
        known = {
            "session_state": parent.session_state,
            "dependencies": parent.dependencies,
            "record": self.output.cancel,
        }
        self.progress.merge_branches()  # so that hooks see the final session state
        started = _latest_first(self.started_steps)
        outputs = [(step, progress.output or progress.interrupted()) for step, progress in started]
        hooks = [hook for step, output in outputs for hook in step.cleanups(output, known, compensate=False)]
        if compensate or config.compensate:
            hooks += [hook for step, output in outputs for hook in step.cleanups(output, known, compensate=True)]
        for function, name in ((config.on_cancel, config.name or config.id), (self.on_cancel, "run")):
            if function is not None:
                hooks.append(bind_hook(name, "on_cancel", function, self.output, known))
        return hooks

    def _close_open(self, reason: str | None) -> list[Any]:
        """Record the partial outputs of open steps; return the events of their ends."""
        self.progress.merge_branches()
        self.output.content = self.progress.partial()
        events = []
        for event, close in self.progress.cancel_open_steps(reason):
            close()
            events += [event] if event is not None else []
        self.progress.done.extend(self.earlier_outputs[len(self.progress.done) :])  # not reused yet
        return events

    def _record_event(self, event: Any) -> None:
        """Store an event in the output. Without `events_to_skip`, text is left out."""
        skip = self.config.events_to_skip
        if event.is_content if skip is None else event.event in skip:
            return
        assert self.output.events is not None
        self.output.events.append(event)

    def partial_content(self) -> Any:
        """Return the content that has arrived so far."""
        return self.progress.partial()

    def open_steps(self) -> list[str]:
        """Return the names of the open steps, the outermost first. For lists of live runs."""
        return list(_names(self.progress))

    def describe_activity(self) -> str:
        """Return the names of the open steps, as text."""
        return ", ".join(self.open_steps())

    def enable_all_events(self) -> None:
        """Emit all events: they are stored for readers in other processes. Call before the run starts."""
        self.has_reader = self.stream_events = True

    def is_visible(self, event: Any) -> bool:
        """Return whether the reader gets an event.

        Without `stream_events`: the start, text, the outputs of function steps, and the workflow's own end. The ends of
        agents and workflows in steps are left out, so that the first terminal event is the one of this run.
        """
        if not self.has_reader:
            return False
        if isinstance(event, BaseAgentRunEvent) and event.agent_id and not self.config.stream_executor_events:
            return False
        if self.stream_events or event.is_content or isinstance(event, (StepOutputEvent, *PAUSE_EVENTS)):
            return True
        shown = event.is_terminal or event.is_paused or isinstance(event, WorkflowStartedEvent)
        return event.run_id == self.output.run_id and shown


def _latest_first(begun: Sequence[tuple[Runnable, StepState]]) -> Iterator[tuple[Runnable, StepState]]:
    """Yield started steps, the last first, with those of ended nested workflows; cancelled ones clean up themselves."""
    for step, progress in reversed(begun):
        if progress.child_output is not None and progress.child_output.status in (RunStatus.completed, RunStatus.error):
            yield from _latest_first(progress.child_begun)
        yield step, progress


def _names(progress: StepState) -> Iterator[str]:
    for step in progress.open:
        yield step.common["step_name"]
        yield from _names(step)


def _step_outputs(values: Sequence[Any]) -> list[StepOutput]:
    return [value if isinstance(value, StepOutput) else StepOutput.from_dict(value) for value in values]


def _run_ids(outputs: Iterable[StepOutput]) -> Iterator[str | None]:
    """Yield the ids of the runs that made these outputs and the outputs inside them."""
    for output in outputs:
        yield output.step_run_id
        yield from _run_ids(output.steps or ())


def _with_inner(outputs: list[StepOutput], run: WorkflowRunOutput) -> list[StepOutput]:
    """Return the outputs of steps; those inside an unfinished nested workflow are taken from that workflow's run."""
    inner = {made.run_id: made for made in run.step_executor_runs or () if isinstance(made, WorkflowRunOutput)}

    def whole(output: StepOutput) -> StepOutput:
        made = inner.get(output.step_run_id) if not output.finished else None
        if made is not None and output.steps is None:
            return replace(output, steps=_with_inner(_step_outputs(made.step_results), made))
        return replace(output, steps=[whole(step) for step in output.steps]) if output.steps else output

    return [whole(output) for output in outputs]


def _agent_runs(output: WorkflowRunOutput) -> Iterator[RunOutput]:
    """Yield the outputs of the agents in a workflow and in its nested workflows."""
    for run in output.step_executor_runs or ():
        if isinstance(run, WorkflowRunOutput):
            yield from _agent_runs(run)
        else:
            yield run
