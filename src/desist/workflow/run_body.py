"""The body of a workflow's run: its steps, or its function. How it ends is the run's to decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from desist.run.agent import BaseAgentRunEvent, RunOutput
from desist.run.events.base import CancellationStage, RunStatus
from desist.run.execution.cleanup import CleanupHook, bind_hook
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.context import RunContext
from desist.run.options.parent_context import ParentContext
from desist.run.storage.values import SessionUpdate
from desist.run.workflow import (
    StepOutputEvent,
    WorkflowCompletedEvent,
    WorkflowMetrics,
    WorkflowRunOutput,
    WorkflowStartedEvent,
)
from desist.workflow.execution import Runnable, WorkflowExecution
from desist.workflow.metrics import metrics_of
from desist.workflow.sequence import run_sequence
from desist.workflow.sessions import EarlierRuns
from desist.workflow.step_state import StepState
from desist.workflow.terminal_events import cancelled, completed, failed
from desist.workflow.types import StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.run.execution.run import Run
    from desist.workflow.workflow import Workflow

__all__ = ["WorkflowRunBody"]


class WorkflowRunBody:
    """One run of a workflow."""

    kind = "workflow"

    def __init__(
        self,
        workflow: Workflow,
        step_input: StepInput,
        parent: ParentContext,
        *,
        has_reader: bool,
        stream_events: bool,
        before: Sequence[StepOutput | dict[str, Any]] = (),
    ) -> None:
        self.workflow = workflow
        self.given = step_input
        self.place = parent
        self.has_reader = has_reader
        self.stream_events = stream_events
        self.first_event_index = 0
        #: What the steps made when an earlier run was stopped: what finished is taken as it is.
        self.before = _step_outputs(before)
        self.earlier_runs: Mapping[str, RunOutput] = {}  #: of agents, by id, of the run that was stopped
        self.progress = StepState({}, StepType.WORKFLOW.value)
        self.made: StepOutput | None = None  #: by a workflow that is a function
        self.common: dict[str, Any] = {}
        self.child_runs: list[Any] = []
        self.started_steps: list[tuple[Runnable, StepState]] = []
        self.on_cancel: Callable[..., Any] | None = None  #: of this run alone
        self.resumable = workflow.on_crash == "resume"
        self.in_session: SessionBinding | None = None
        kept = workflow.store_events and parent.step_id is None  # a nested one tells its events to the outer run
        self.on_event = self._record_event if kept else None
        self._began_at = time.monotonic()
        self.output = WorkflowRunOutput(
            input=step_input.input,
            workflow_id=workflow.id,
            workflow_name=workflow.name,
            session_id=parent.session_id,
            user_id=parent.user_id,
            metadata=parent.metadata,
            additional_data=step_input.additional_data,
            workflow_step_id=parent.step_id,
            step_results=self.progress.done,
            events=[] if kept else None,
            status=RunStatus.pending,
        )

    def continue_from(self, earlier: WorkflowRunOutput) -> None:
        """Take over what an earlier run left: its finished steps, and what its agents had said and done."""
        self.before = _with_inner(_step_outputs(earlier.step_results), earlier)
        self.earlier_runs = {run.run_id: run for run in _agent_runs(earlier) if run.run_id is not None}
        self.output.continued_from = earlier.run_id

    def bind_run_id(self, run_id: str, parent_run_id: str | None) -> None:
        """The run's id is known: every event carries it."""
        self.output.run_id = run_id
        self.output.parent_run_id = parent_run_id
        self.common = {
            "workflow_id": self.workflow.id,
            "workflow_name": self.workflow.name,
            "session_id": self.place.session_id,
            "run_id": run_id,
            "parent_step_id": self.place.step_id,
            "nested_depth": self.place.nested_depth,
        }

    @property
    def session(self) -> SessionUpdate | None:
        """What the run changes in its session."""
        return self.in_session.update if self.in_session is not None else None

    def start_event(self) -> WorkflowStartedEvent:
        """Return the first event."""
        return WorkflowStartedEvent(**self.common)

    async def execute(self, run: Run) -> None:
        """Run the steps."""
        place = self.place
        if self.in_session is not None:
            await self.in_session.load(run.store)
        self.given.workflow_session = EarlierRuns(run.store, place)
        context = RunContext(
            run_id=run.run_id,
            session_id=place.session_id,
            user_id=place.user_id,
            workflow_id=place.workflow_id,
            workflow_name=place.workflow_name,
            workflow_run_id=place.workflow_run_id or run.run_id,
            session_state=place.session_state,
            dependencies=place.dependencies,
            metadata=place.metadata,
            cancel_token=run.token,
        )
        heard = self.has_reader and self.workflow.stream_executor_events
        history = (self.workflow.add_workflow_history_to_steps, self.workflow.num_history_runs)
        flow = WorkflowExecution(
            run,
            place,
            context,
            self.common,
            heard,
            self.stream_events,
            history=history,
            earlier_runs=self.earlier_runs,
            child_runs=self.child_runs,
            started_steps=self.started_steps,
        )
        program = self.workflow.program
        if program is None:
            await run_sequence(self.workflow.steps, self.given, flow, self.progress, before=self.before)
            return
        self.progress.common = {**self.common, "step_name": self.workflow.name}
        made = await program.run(self.workflow, self.given, flow, self.progress)
        run.commit(lambda: setattr(self, "made", made))

    def terminal_events(self, status: RunStatus, error: BaseException | None) -> list[Any]:
        """Finish the output and return the closing events."""
        output = self.output
        if self.in_session is not None:
            self.in_session.conclude()
        events: list[Any] = []
        if status is not RunStatus.completed:
            events = self._cancelled() if status is RunStatus.cancelled else self._failed(error)
        if self.workflow.store_executor_outputs:
            output.step_executor_runs = [*self._reused_outputs(), *self.child_runs] or None
        output.metrics = WorkflowMetrics(
            steps=metrics_of(self.progress.done), duration=time.monotonic() - self._began_at
        )
        if status is RunStatus.completed:
            events = [self._completed()]
        if self.on_event is not None:
            for event in events:
                self.on_event(event)
        return events

    def _reused_outputs(self) -> list[Any]:
        """Return the earlier runs whose steps weren't run again."""
        known = set(_run_ids(self.progress.done))
        return [run for run_id, run in self.earlier_runs.items() if run_id in known]

    def _completed(self) -> WorkflowCompletedEvent:
        output = self.output
        last = self.made or (self.progress.done[-1] if self.progress.done else None)
        output.content = last.content if last else None
        output.content_type = type(output.content).__name__
        for kind in ("images", "videos", "audio", "files"):
            made = [item for step in (*self.progress.done, self.made) if step for item in getattr(step, kind) or ()]
            setattr(output, kind, made or None)
        return completed(output, self.common)

    def _cancelled(self) -> list[Any]:
        output, record = self.output, self.output.cancel
        reason = record.reason if record else None
        began = bool(self.progress.done or self.progress.open)
        output.cancellation_stage = CancellationStage.executing if began else CancellationStage.pending
        closing = self._close_open(reason)
        return [*closing, cancelled(output, self.common)]

    def _failed(self, error: BaseException | None) -> list[Any]:
        words = str(error) or type(error).__name__
        self._close_open(words)
        self.output.error = words
        self.output.content = self.output.content if self.output.content is not None else words
        return [failed(self.output, self.common, type(error).__name__)]

    def cleanup_hooks(self, compensate: bool) -> list[CleanupHook]:
        """Return what is to be done: for interrupted steps, compensations, the workflow's own, the run's own."""
        place, workflow = self.place, self.workflow
        known = {"session_state": place.session_state, "dependencies": place.dependencies, "record": self.output.cancel}
        self.progress.merge_branches()  # hooks find the state as it will be left
        made = [
            (step, progress.output or progress.interrupted()) for step, progress in _latest_first(self.started_steps)
        ]
        due = [one for step, output in made for one in step.cleanups(output, known, compensate=False)]
        if compensate or workflow.compensate:
            due += [one for step, output in made for one in step.cleanups(output, known, compensate=True)]
        for function, name in ((workflow.on_cancel, workflow.name or workflow.id), (self.on_cancel, "run")):
            if function is not None:
                due.append(bind_hook(name, "on_cancel", function, self.output, known))
        return due

    def _close_open(self, reason: str | None) -> list[Any]:
        """Move what is open to the results, as it stands; return the closing events."""
        self.progress.merge_branches()
        self.output.content = self.progress.partial()
        events = []
        for event, close in self.progress.cancel_open_steps(reason):
            close()
            events += [event] if event is not None else []
        self.progress.done.extend(self.before[len(self.progress.done) :])  # what it hadn't come to take over
        return events

    def _record_event(self, event: Any) -> None:
        """Store an event, unless it is one of those to skip; pieces of text only if nothing was said about that."""
        skip = self.workflow.events_to_skip
        if event.is_content if skip is None else event.event in skip:
            return
        assert self.output.events is not None
        self.output.events.append(event)

    def partial_content(self) -> Any:
        """Return what it has said by now."""
        return self.progress.partial()

    def open_steps(self) -> list[str]:
        """Return the names of the steps that are open, the outermost first. For who looks at live runs."""
        return list(_names(self.progress))

    def describe_activity(self) -> str:
        """Return the names of the steps that run."""
        return ", ".join(self.open_steps())

    def enable_all_events(self) -> None:
        """Show everything: it is recorded, for whoever follows from another process."""
        self.has_reader = self.stream_events = True

    def is_visible(self, event: Any) -> bool:
        """Whether the reader sees an event.

        Without `stream_events`: the start, text, what function steps made, and the workflow's own end. The ends of
        the agents and workflows in it aren't: a reader that stops at the first "cancelled" has the workflow's id in
        its hand.
        """
        if not self.has_reader:
            return False
        if isinstance(event, BaseAgentRunEvent) and event.agent_id and not self.workflow.stream_executor_events:
            return False
        if self.stream_events or event.is_content or isinstance(event, StepOutputEvent):
            return True
        return event.run_id == self.output.run_id and (event.is_terminal or isinstance(event, WorkflowStartedEvent))


def _latest_first(begun: list[tuple[Runnable, StepState]]) -> Iterator[tuple[Runnable, StepState]]:
    """Yield what has begun, the last first, with what ended in nested workflows; cancelled ones clean up themselves."""
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
    """Yield the ids of the runs that made these outputs, and what is inside them."""
    for output in outputs:
        yield output.step_run_id
        yield from _run_ids(output.steps or ())


def _with_inner(outputs: list[StepOutput], run: WorkflowRunOutput) -> list[StepOutput]:
    """Return the outputs of steps; what a nested workflow had made when its process died is known to its run only."""
    inner = {made.run_id: made for made in run.step_executor_runs or () if isinstance(made, WorkflowRunOutput)}

    def whole(output: StepOutput) -> StepOutput:
        made = inner.get(output.step_run_id) if not output.finished else None
        if made is not None and output.steps is None:
            return replace(output, steps=_with_inner(_step_outputs(made.step_results), made))
        return replace(output, steps=[whole(step) for step in output.steps]) if output.steps else output

    return [whole(output) for output in outputs]


def _agent_runs(output: WorkflowRunOutput) -> Iterator[RunOutput]:
    """Yield the outputs of the agents in a workflow, those in nested workflows too."""
    for run in output.step_executor_runs or ():
        if isinstance(run, WorkflowRunOutput):
            yield from _agent_runs(run)
        else:
            yield run
