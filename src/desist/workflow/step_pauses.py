"""`StepPauses`: what the steps of one run wait for, and the answers with which a paused run goes on.

A step is found again by its path in the run, which includes the round of a Loop. Shared by all steps of a run; changed
only through `Run.emit` and `Run.commit`, and read on the loop of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from desist.run.events.steps import StepExecutorPausedEvent
from desist.run.execution.pausing import PauseRun
from desist.run.records.requirement import Requirement
from desist.run.records.run_requirement import RunRequirement
from desist.run.records.step_requirement import ErrorRequirement, StepRequirement

if TYPE_CHECKING:
    from desist.run.events.workflow_base import BaseStepEvent
    from desist.run.execution.run import Run
    from desist.workflow.human_review import HumanReview
    from desist.workflow.step_state import StepState

__all__ = ["Resolved", "StepPauses"]

AnyRequirement = StepRequirement | ErrorRequirement


@dataclass(frozen=True, slots=True)
class Resolved:
    """A requirement of a step with its answer."""

    requirement: Any  #: StepRequirement or ErrorRequirement
    stored: Requirement

    @property
    def decision(self) -> str:
        """The decision: that of the human, or that of the deadline."""
        if self.stored.state == "expired":
            return {"approve": "confirm", "skip": "skip"}.get(self.stored.on_timeout or "", "reject")
        return str((self.stored.answer or {}).get("decision", "reject"))

    @property
    def values(self) -> dict[str, Any]:
        """The values that a human gave."""
        return dict((self.stored.answer or {}).get("values") or {})


@dataclass(slots=True)
class StepPauses:
    """The requirements of one run of a workflow."""

    earlier: list[StepRequirement] = field(default_factory=list)  #: of earlier pauses, in order
    earlier_errors: list[ErrorRequirement] = field(default_factory=list)
    new: list[AnyRequirement] = field(default_factory=list)  #: of this pause
    stored: list[Requirement] = field(default_factory=list)  #: the same, for the store, with those of agents
    child_answers: dict[str, list[Requirement]] = field(default_factory=dict)  #: by the id of the child run
    paused_children: list[Any] = field(default_factory=list)  #: runs of agents that wait
    history: list[Requirement] = field(default_factory=list)  #: what was answered in earlier pauses
    rejected: bool = False  #: whether the run is cancelled because a human has rejected a step
    _answers: dict[tuple[str, str], Resolved] = field(default_factory=dict)

    def resume(self, run_id: str, steps: Iterable[Any], errors: Iterable[Any], answers: Sequence[Requirement]) -> None:
        """Take over the requirements of a paused run, with the answers."""
        by_id = {one.requirement_id: one for one in answers}
        self.history = list(answers)
        for answer in answers:
            if answer.run_id != run_id:
                self.child_answers.setdefault(answer.run_id, []).append(answer)
        self.earlier = [StepRequirement.from_dict(one.to_dict()) for one in steps]
        self.earlier_errors = [ErrorRequirement.from_dict(one.to_dict()) for one in errors]
        for step in self.earlier:
            for inner in step.executor_requirements or ():
                if (found := by_id.get(inner.id)) is not None:
                    inner.apply(found)
            if step.requires_executor_input:
                step.state = "answered"
        known: list[Any] = [*self.earlier, *self.earlier_errors]
        for one in known:
            if (found := by_id.get(one.id)) is not None:
                one.apply(found)
                self._answers[one.path, one.kind] = Resolved(one, found)  # of several, the last one

    def take(self, progress: StepState, kind: str) -> Resolved | None:
        """Return the answer for a step, once."""
        return self._answers.pop((progress.path(), kind), None)

    def ask(
        self,
        run: Run,
        progress: StepState,
        requirement: AnyRequirement,
        event: BaseStepEvent,
        review: HumanReview | None,
    ) -> NoReturn:
        """Record what a step waits for, emit its event, and pause."""
        common = progress.common
        requirement.path, requirement.step_id, requirement.step_name = progress.path(), *_names(common)
        requirement.step_index, requirement.step_type = common.get("step_index"), progress.step_type
        timeout = review.timeout if review is not None else None
        deadline = None if timeout is None else time.time() + timeout
        stored = requirement.as_stored(run.run_id, run.root.run_id, deadline)

        def record() -> None:
            self.new.append(requirement)
            self.stored.append(stored)

        run.emit(event, record)
        raise PauseRun

    def ask_for_child(self, run: Run, progress: StepState, child: Run) -> NoReturn:
        """Record that the agent of a step waits, and pause."""
        body: Any = child.body
        waiting: Sequence[RunRequirement] = body.pending
        made = child.body.output
        about: dict[str, Any] = {
            "executor_id": getattr(made, "agent_id", None),
            "executor_name": progress.executor_name,
            "executor_run_id": child.run_id,
            "executor_type": progress.executor_type,
        }
        requirement = StepRequirement(
            path=progress.path(),
            step_index=progress.common.get("step_index"),
            step_type=progress.step_type,
            requires_executor_input=True,
            executor_requirements=list(waiting),
            executor_session_id=made.session_id,
            **about,
        )
        requirement.step_id, requirement.step_name = _names(progress.common)

        def record() -> None:
            self.new.append(requirement)
            self.stored.extend(body.waiting)
            self.paused_children.append(child)

        event = StepExecutorPausedEvent(**progress.common, **about, executor_requirements=list(waiting))
        run.emit(event, record)
        raise PauseRun

    def apply(self, requirements: Sequence[Requirement]) -> None:
        """Put the answers into the requirements of this pause."""
        known: Mapping[str, Requirement] = {one.requirement_id: one for one in requirements}
        for one in self.new:
            if (found := known.get(one.id)) is not None and not found.is_open:
                one.apply(found)
            for inner in getattr(one, "executor_requirements", None) or ():
                if (found := known.get(inner.id)) is not None and not found.is_open:
                    inner.apply(found)

    @property
    def waiting(self) -> list[Requirement]:
        """What the store decides about: the requirements of this pause, and what was answered before."""
        return [*self.history, *self.stored]

    @property
    def steps(self) -> list[StepRequirement]:
        """The requirements of steps, of all pauses."""
        return [*self.earlier, *(one for one in self.new if isinstance(one, StepRequirement))]

    @property
    def errors(self) -> list[ErrorRequirement]:
        """The failures that wait, of all pauses."""
        return [*self.earlier_errors, *(one for one in self.new if isinstance(one, ErrorRequirement))]


def _names(common: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return common.get("step_id"), common.get("step_name")
