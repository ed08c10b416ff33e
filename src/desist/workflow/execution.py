"""What the steps of one run share, and what a step is to whoever runs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from desist.run.events.steps import StepErrorEvent, StepStartedEvent
from desist.run.events.workflow_base import BaseStepEvent, StepIndex
from desist.run.execution.branch import current_branch
from desist.run.execution.cleanup import CleanupHook
from desist.run.execution.run import Run
from desist.run.options.context import RunContext
from desist.run.options.parent_context import ParentContext
from desist.workflow.checkpoints import checkpoint_step
from desist.workflow.step_state import StepState
from desist.workflow.types import StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.agent.agent import Agent

__all__ = ["Runnable", "StepPosition", "WorkflowExecution"]

log = logging.getLogger("desist.workflow")


@dataclass(slots=True, frozen=True)
class StepPosition:
    """Where a step stands among the others."""

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
        previous_output: StepOutput | None = None,
    ) -> StepOutput:
        """Do the step; note it in `parent` while it runs and when it has ended.

        `previous_output` is what it had made when an earlier run was stopped in it: what finished inside is taken as it
        is.
        """

    def children(self) -> Sequence[Runnable]:
        """Return the steps in it."""

    def agents(self) -> Iterator[Agent]:
        """Name the agents in it, so that what they lack is known before anything runs."""

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[CleanupHook]:
        """Name the hooks that are due for what it made: its compensation, or what is to be done when interrupted."""


@dataclass(slots=True)
class WorkflowExecution:
    """One run of a workflow, as its steps see it."""

    run: Run
    place: ParentContext
    context: RunContext
    common: dict[str, Any]  #: what every event carries
    listened: bool
    stream_events: bool
    history: tuple[bool, int] = (False, 0)  #: whether agents are told what the session's last runs said; how many
    earlier_runs: Mapping[str, Any] = field(default_factory=dict)  #: of agents, by id, of the run that is continued
    child_runs: list[Any] = field(default_factory=list)
    started_steps: list[tuple[Runnable, StepState]] = field(default_factory=list)  #: in the order in which they began

    def with_state(self, state: dict[str, Any]) -> WorkflowExecution:
        """Return the same run as a branch sees it that has a session state of its own."""
        place, context = replace(self.place, session_state=state), replace(self.context, session_state=state)
        return replace(self, place=place, context=context)

    def check(self) -> None:
        """Let nothing new start: the run was cancelled, or the branch at hand was stopped by its siblings.

        Raises:
            RunCancelled, CancelledError: it must not.
        """
        self.run.check()
        if self.branch_cancelled():
            raise asyncio.CancelledError

    @staticmethod
    def branch_cancelled() -> bool:
        """Whether the branch at hand was stopped by its siblings, though something in it may have swallowed that."""
        branch = current_branch()
        return branch is not None and branch.stop_requested

    def begin(
        self, step: Runnable, position: StepPosition, parent: StepState, kind: StepType, *, emit_started: bool = True
    ) -> StepState:
        """Note that a step begins, and tell it; a container that has to think first tells it later (`told`)."""
        common = {
            **self.common,
            "step_id": step.step_id,
            "parent_step_id": position.parent_step_id,
            "nested_depth": position.depth,
            "step_name": step.name,
            "step_index": position.index,
        }
        progress = StepState(common, kind.value, parent, started_event_sent=emit_started)

        def note() -> None:
            parent.open.append(progress)
            self.started_steps.append((step, progress))

        if emit_started:
            self.run.emit(StepStartedEvent(**common), note)
        else:
            self.run.commit(note)
        log.debug("run %s: %s %r begins", self.run.run_id, kind.value, step.name, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.begin_step(progress, kind.value, common)
        return progress

    def end(self, progress: StepState, parent: StepState, output: StepOutput, event: BaseStepEvent) -> StepOutput:
        """It has ended: tell it and keep what it made."""
        name = progress.common["step_name"]

        def keep() -> None:
            parent.open.remove(progress)
            parent.done.append(output)
            progress.output = output
            output.duration = time.monotonic() - progress.began_at
            if parent.forks is not None and not output.cancelled:
                parent.forks.finished(name)

        self.run.emit(event, keep)
        checkpoint_step(self.run, output, parent)
        log.debug("run %s: %s has ended: %s", self.run.run_id, name, event.event, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.end_step(progress, error=output.error, cancelled=output.cancelled)
        return output

    def fail(self, progress: StepState, parent: StepState, message: str) -> StepOutput:
        """It has failed: close what is open below it, and keep what was done."""
        progress.merge_branches()
        for event, keep in progress.cancel_open_steps(message):
            self.run.emit(event, keep) if event is not None else self.run.commit(keep)
        return self.end(progress, parent, progress.failed(message), StepErrorEvent(**progress.common, error=message))

    def reuse(self, step: Runnable, output: StepOutput, parent: StepState) -> StepOutput:
        """Take what an earlier run made as made by this one: nothing is told, but it can be undone.

        It is recorded again: this run may be continued itself.
        """

        def note() -> None:
            parent.done.append(output)
            self.started_steps.extend(_begun(step, output))

        self.run.commit(note)
        checkpoint_step(self.run, output, parent)
        return output


def _begun(step: Runnable, output: StepOutput) -> Iterator[tuple[Runnable, StepState]]:
    yield step, StepState({}, output.step_type or "", output=output)
    inner = {child.name: child for child in step.children()}
    for made in output.steps or ():
        if made.step_name in inner:
            yield from _begun(inner[made.step_name], made)
