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
from desist.run.execution.cleanup import Cleanup
from desist.run.execution.run import Run
from desist.run.options.context import RunContext
from desist.run.options.parent_context import Place
from desist.workflow.checkpoints import keep_step
from desist.workflow.step_state import Progress
from desist.workflow.types import StepInput, StepOutput, StepType

if TYPE_CHECKING:
    from desist.agent.agent import Agent

__all__ = ["Flow", "Runnable", "Spot"]

log = logging.getLogger("desist.workflow")


@dataclass(slots=True, frozen=True)
class Spot:
    """Where a step stands among the others."""

    index: StepIndex
    parent_step_id: str | None = None
    depth: int = 0


class Runnable(Protocol):
    """A step or container."""

    name: str
    step_id: str

    async def perform(
        self, given: StepInput, flow: Flow, spot: Spot, above: Progress, before: StepOutput | None = None
    ) -> StepOutput:
        """Do the step; note it in `above` while it runs and when it has ended.

        `before` is what it had made when an earlier run was stopped in it: what finished inside is taken as it is.
        """

    def children(self) -> Sequence[Runnable]:
        """Return the steps in it."""

    def agents(self) -> Iterator[Agent]:
        """Name the agents in it, so that what they lack is known before anything runs."""

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[Cleanup]:
        """Name the hooks that are due for what it made: its compensation, or what is to be done when interrupted."""


@dataclass(slots=True)
class Flow:
    """One run of a workflow, as its steps see it."""

    run: Run
    place: Place
    context: RunContext
    common: dict[str, Any]  #: what every event carries
    listened: bool
    stream_events: bool
    history: tuple[bool, int] = (False, 0)  #: whether agents are told what the session's last runs said; how many
    earlier_runs: Mapping[str, Any] = field(default_factory=dict)  #: of agents, by id, of the run that is continued
    child_runs: list[Any] = field(default_factory=list)
    begun: list[tuple[Runnable, Progress]] = field(default_factory=list)  #: in the order in which they began

    def with_state(self, state: dict[str, Any]) -> Flow:
        """Return the same run as a branch sees it that has a session state of its own."""
        place, context = replace(self.place, session_state=state), replace(self.context, session_state=state)
        return replace(self, place=place, context=context)

    def check(self) -> None:
        """Let nothing new start: the run was cancelled, or the branch at hand was stopped by its siblings.

        Raises:
            RunCancelled, CancelledError: it must not.
        """
        self.run.check()
        if self.told_to_stop():
            raise asyncio.CancelledError

    @staticmethod
    def told_to_stop() -> bool:
        """Whether the branch at hand was stopped by its siblings, though something in it may have swallowed that."""
        branch = current_branch()
        return branch is not None and branch.told_to_stop

    def begin(self, step: Runnable, spot: Spot, above: Progress, kind: StepType, *, told: bool = True) -> Progress:
        """Note that a step begins, and tell it; a container that has to think first tells it later (`told`)."""
        common = {
            **self.common,
            "step_id": step.step_id,
            "parent_step_id": spot.parent_step_id,
            "nested_depth": spot.depth,
            "step_name": step.name,
            "step_index": spot.index,
        }
        progress = Progress(common, kind.value, above, told=told)

        def note() -> None:
            above.open.append(progress)
            self.begun.append((step, progress))

        if told:
            self.run.emit(StepStartedEvent(**common), note)
        else:
            self.run.commit(note)
        log.debug("run %s: %s %r begins", self.run.run_id, kind.value, step.name, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.begin_step(progress, kind.value, common)
        return progress

    def end(self, progress: Progress, above: Progress, output: StepOutput, event: BaseStepEvent) -> StepOutput:
        """It has ended: tell it and keep what it made."""
        name = progress.common["step_name"]

        def keep() -> None:
            above.open.remove(progress)
            above.done.append(output)
            progress.output = output
            output.duration = time.monotonic() - progress.began_at
            if above.forks is not None and not output.cancelled:
                above.forks.finished(name)

        self.run.emit(event, keep)
        keep_step(self.run, output, above)
        log.debug("run %s: %s has ended: %s", self.run.run_id, name, event.event, extra=self.run.ids)
        if self.run.spans is not None:
            self.run.spans.end_step(progress, error=output.error, cancelled=output.cancelled)
        return output

    def fail(self, progress: Progress, above: Progress, words: str) -> StepOutput:
        """It has failed: close what is open below it, and keep what was done."""
        progress.settle()
        for event, keep in progress.closing(words):
            self.run.emit(event, keep) if event is not None else self.run.commit(keep)
        return self.end(progress, above, progress.failed(words), StepErrorEvent(**progress.common, error=words))

    def reuse(self, step: Runnable, output: StepOutput, above: Progress) -> StepOutput:
        """Take what an earlier run made as made by this one: nothing is told, but it can be undone.

        It is recorded again: this run may be continued itself.
        """

        def note() -> None:
            above.done.append(output)
            self.begun.extend(_begun(step, output))

        self.run.commit(note)
        keep_step(self.run, output, above)
        return output


def _begun(step: Runnable, output: StepOutput) -> Iterator[tuple[Runnable, Progress]]:
    yield step, Progress({}, output.step_type or "", output=output)
    inner = {child.name: child for child in step.children()}
    for made in output.steps or ():
        if made.step_name in inner:
            yield from _begun(inner[made.step_name], made)
