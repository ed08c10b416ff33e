"""`WorkflowExecution`: one run of a workflow, as its steps see it. And the protocols of steps and child workflows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from desist.run.events.steps import StepErrorEvent, StepStartedEvent
from desist.run.events.workflow_base import BaseStepEvent, StepIndex
from desist.run.execution.branch import current_branch
from desist.run.execution.cleanup import CleanupHook
from desist.run.execution.run import Run
from desist.run.options.context import RunContext
from desist.run.options.parent_context import ParentContext
from desist.workflow.checkpoints import checkpoint_step
from desist.workflow.step_pauses import StepPauses
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.agent.agent import Agent

__all__ = ["ChildWorkflow", "Runnable", "StepPosition", "WorkflowExecution"]

log = logging.getLogger("desist.workflow")


@dataclass(slots=True, frozen=True)
class StepPosition:
    """The position of a step among the others."""

    index: StepIndex
    parent_step_id: str | None = None
    depth: int = 0


class Runnable(Protocol):
    """A step or container."""

    name: str
    step_id: str

    async def execute(
        self,
        step_input: StepInput,
        flow: WorkflowExecution,
        position: StepPosition,
        parent: StepState,
        earlier_output: StepOutput | None = None,
    ) -> StepOutput:
        """Run the step; record its state in `parent` while it runs and when it has ended.

        `earlier_output` is the partial output of the run that is continued; the finished work in it is reused.
        """

    def children(self) -> Sequence[Runnable]:
        """Return the steps in it."""

    def agents(self) -> Iterator[Agent]:
        """Yield the agents in it, so that they can be checked before the run starts."""

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[CleanupHook]:
        """Yield its compensation, or the hooks of an interrupted step."""


@runtime_checkable
class ChildWorkflow(Protocol):
    """A workflow, as a step runs it."""

    id: str
    name: str | None
    steps: list[Runnable]

    def check(self, inside: tuple[object, ...] = ()) -> None:
        """Raise ConfigurationError if the workflow can't run; see `check_tree`."""

    def open_as_child(
        self,
        step_input: StepInput,
        parent: ParentContext,
        flow: WorkflowExecution,
        *,
        skip: bool,
        earlier_outputs: Sequence[StepOutput] = (),
        bound: bool = True,
    ) -> Run:
        """Register a run of this workflow as a child of the current run."""


@dataclass(slots=True)
class WorkflowExecution:
    """One run of a workflow, as its steps see it. Shared by all steps; a branch of a `Parallel` has a copy."""

    run: Run
    parent_context: ParentContext
    context: RunContext
    common: dict[str, Any]  #: the fields that all events of the run carry
    listened: bool  #: whether the events of agents have a reader
    stream_events: bool
    history: tuple[bool, int] = (False, 0)  #: whether agents get the session's last runs, and how many
    earlier_runs: Mapping[str, Any] = field(default_factory=dict)  #: outputs of agents of the continued run, by run id
    child_runs: list[Any] = field(default_factory=list)
    started_steps: list[tuple[Runnable, StepState]] = field(default_factory=list)  #: in the order in which they began
    pauses: StepPauses = field(default_factory=StepPauses)  #: what the steps wait for

    def with_state(self, state: dict[str, Any]) -> WorkflowExecution:
        """Return this execution for a branch with a session state of its own."""
        parent_context, context = (
            replace(self.parent_context, session_state=state),
            replace(self.context, session_state=state),
        )
        return replace(self, parent_context=parent_context, context=context)

    def check(self) -> None:
        """Raise if no new work may start.

        Raises:
            RunCancelled: the run was cancelled.
            CancelledError: the current branch was stopped by its siblings.
        """
        self.run.check()
        if self.branch_cancelled():
            raise asyncio.CancelledError

    @staticmethod
    def branch_cancelled() -> bool:
        """Return whether the current branch was stopped by its siblings, also if its code swallowed the cancel."""
        branch = current_branch()
        return branch is not None and branch.stop_requested

    def begin(
        self, step: Runnable, position: StepPosition, parent: StepState, kind: StepType, *, emit_started: bool = True
    ) -> StepState:
        """Record that a step begins.

        Parameters:
            emit_started: emit the started event now; a container emits its own, when it knows what it will run.
        """
        common = {
            **self.common,
            "step_id": step.step_id,
            "parent_step_id": position.parent_step_id,
            "nested_depth": position.depth,
            "step_name": step.name,
            "step_index": position.index,
        }
        progress = StepState(common, kind.value, parent, started_event_sent=emit_started)

        def record() -> None:
            parent.open.append(progress)
            self.started_steps.append((step, progress))

        if emit_started:
            self.run.emit(StepStartedEvent(**common), record)
        else:
            self.run.commit(record)
        log.debug("run %s: %s %r begins", self.run.run_id, kind.value, step.name, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.begin_step(progress, kind.value, common)
        return progress

    def end(self, progress: StepState, parent: StepState, output: StepOutput, event: BaseStepEvent) -> StepOutput:
        """Record the output of a step that has ended, and emit `event`."""
        name = progress.common["step_name"]

        def record() -> None:
            parent.open.remove(progress)
            parent.done.append(output)
            progress.output = output
            output.duration = time.monotonic() - progress.began_at
            if parent.forks is not None and not output.cancelled:
                parent.forks.finished(name)

        self.run.emit(event, record)
        checkpoint_step(self.run, output, parent)
        log.debug("run %s: %s has ended: %s", self.run.run_id, name, event.event, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.end_step(progress, error=output.error, cancelled=output.cancelled)
        return output

    def fail(self, progress: StepState, parent: StepState, message: str) -> StepOutput:
        """Record that a step has failed, with the finished work in it; end the open steps below it."""
        progress.merge_branches()
        for event, keep in progress.cancel_open_steps(message):
            self.run.emit(event, keep) if event is not None else self.run.commit(keep)
        return self.end(progress, parent, progress.failed(message), StepErrorEvent(**progress.common, error=message))

    def reuse(self, step: Runnable, output: StepOutput, parent: StepState) -> StepOutput:
        """Record the output of an earlier run as this run's. Nothing is emitted, but the step can be compensated.

        The output is stored again, because this run may be continued too.
        """

        def record() -> None:
            parent.done.append(output)
            self.started_steps.extend(_begun(step, output))

        self.run.commit(record)
        checkpoint_step(self.run, output, parent)
        return output


def _begun(step: Runnable, output: StepOutput) -> Iterator[tuple[Runnable, StepState]]:
    yield step, StepState({}, output.step_type or "", output=output)
    inner = {child.name: child for child in step.children()}
    for made in output.steps or ():
        if made.step_name in inner:
            yield from _begun(inner[made.step_name], made)
