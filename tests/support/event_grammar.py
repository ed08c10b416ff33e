"""What order the events of a workflow's stream may come in: a state machine that is given one after the other.

For streams with `stream_events=True`. It knows events, and nothing of how they are
made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.run.agent import BaseAgentRunEvent
from desist.run.workflow import BaseStepEvent, BaseWorkflowRunOutputEvent, CustomEvent, StepOutputEvent

#: What begins, and what ends it well; an error or a cancel ends any.
PAIRS = {
    "StepStarted": "StepCompleted",
    **{
        f"{kind}ExecutionStarted": f"{kind}ExecutionCompleted"
        for kind in ("Steps", "Parallel", "Loop", "Condition", "Router")
    },
}
ENDS = {*PAIRS.values(), "StepError", "StepCancelled"}


@dataclass
class OpenStep:
    """A step that has begun."""

    event: Any
    iteration: int = 0
    in_iteration: bool = False


@dataclass
class Grammar:
    """The state: open runs and open steps, by what their events carry."""

    root: str
    runs: dict[str, Any] = field(default_factory=dict)  #: run id: its first event
    ended: set[str] = field(default_factory=set)
    steps: dict[tuple[Any, ...], OpenStep] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)
    cancelled: bool = False

    def check(self, events: list[Any]) -> None:
        """All events of one stream, from the first to the last."""
        for event in events:
            self.take(event)
        self.need(bool(events) and events[-1].is_terminal and events[-1].run_id == self.root, "the end comes last")
        self.need(not self.steps, f"steps are left open: {list(self.steps)}")
        self.need(set(self.runs) == self.ended or not self.runs, f"runs are left open: {set(self.runs) - self.ended}")

    def need(self, holds: bool, words: str) -> None:
        """Fail, with what was seen so far."""
        if not holds:
            story = "\n".join(
                f"  {e.event} {getattr(e, 'step_name', '')} {getattr(e, 'step_index', '')} run={e.run_id}"
                for e in self.seen
            )
            raise AssertionError(f"{words}, after:\n{story}")

    def take(self, event: Any) -> None:
        """One event."""
        self.seen.append(event)
        self.need(self.root not in self.ended, "nothing comes after the root's end")
        self.need(event.run_id not in self.ended, "nothing of a run comes after its end")
        if event.event in ("WorkflowStarted", "RunStarted"):
            self._begin_run(event)
        elif event.is_terminal:
            self._end_run(event)
        elif isinstance(event, BaseStepEvent):
            self._step(event)
        else:
            self._other(event)
        self.cancelled = self.cancelled or (event.is_terminal and event.is_cancelled and event.run_id == self.root)

    # -- runs

    def _begin_run(self, event: Any) -> None:
        self.need(event.run_id not in self.runs, "a run begins once")
        self.need(bool(self.runs) == (event.run_id != self.root), "the root begins first")
        if event.run_id != self.root:
            step = self._open_by_id(event.step_id if isinstance(event, BaseAgentRunEvent) else event.parent_step_id)
            self.need(step is not None, "a run inside belongs to an open step")
        if isinstance(event, BaseAgentRunEvent):
            self.need(event.workflow_run_id == self.root, "an agent's events name the root")
            self.need(event.parent_run_id in self.runs, "an agent's events name the run that it was started in")
        self.runs[event.run_id] = event

    def _end_run(self, event: Any) -> None:
        if event.run_id == self.root and not self.runs:
            return self.ended.add(event.run_id)  # it never started
        if event.run_id not in self.runs:
            self.need(event.is_cancelled, "a run that never began can only be cancelled")
            self.runs[event.run_id] = event
        left = [key for key in self.steps if key[0] == event.run_id]
        self.need(not left, f"a run ends after its steps: {left}")
        if event.run_id == self.root:
            self.need({*self.runs} - self.ended == {self.root}, "children end before their parents")
        self.ended.add(event.run_id)
        return None

    # -- steps

    def _key(self, event: Any) -> tuple[Any, ...]:
        return event.run_id, event.step_id, event.step_index

    def _open_by_id(self, step_id: str | None) -> OpenStep | None:
        return next((step for (_, known, _), step in self.steps.items() if known == step_id), None)

    def _step(self, event: Any) -> None:
        self.need(event.run_id in self.runs, "a step's run has begun")
        step = self.steps.get(self._key(event))
        if event.event in PAIRS:
            self.need(step is None, "a step begins once at a time")
            self._place(event)
            self.steps[self._key(event)] = OpenStep(event)
            return
        self.need(step is not None, "what a step tells comes while it is open")
        assert step is not None
        self.need(event.nested_depth == step.event.nested_depth, "a step's depth stays")
        self.need(event.parent_step_id == step.event.parent_step_id, "a step's parent stays")
        if event.event in ENDS:
            self._end_step(event, step)
        elif event.event.startswith("LoopIteration"):
            self._iteration(event, step)

    def _place(self, event: Any) -> None:
        """Where a step stands: a number in its workflow, a tuple in a container, whose own place it begins with."""
        index, depth = event.step_index, event.nested_depth
        if not isinstance(index, tuple):
            outer = self._open_by_id(event.parent_step_id)
            nested = event.run_id != self.root
            self.need(isinstance(index, int) and (outer is not None) == nested, "a number is a place in a workflow")
            self.need(depth == (outer.event.nested_depth + 1 if outer else 0), "the depth at the top of a workflow")
            return
        around = index[:-1] if len(index) > 2 else index[0]
        outer = self.steps.get((event.run_id, event.parent_step_id, around))
        self.need(outer is not None, f"the container at {around} is open")
        assert outer is not None
        self.need(depth == outer.event.nested_depth + 1, "a step is one deeper than its container")
        if outer.event.event == "LoopExecutionStarted":
            self.need(outer.in_iteration, "a loop's steps run in its rounds")

    def _end_step(self, event: Any, step: OpenStep) -> None:
        wanted = PAIRS[step.event.event]
        self.need(event.event in (wanted, "StepError", "StepCancelled"), f"{step.event.event} is ended by {wanted}")
        below = [key for key, inner in self.steps.items() if self._inside(inner.event, event)]
        self.need(not below, f"a step ends after those inside: {below}")
        running = [
            run
            for run, first in self.runs.items()
            if run not in self.ended
            and run != self.root
            and (first.step_id if isinstance(first, BaseAgentRunEvent) else first.parent_step_id) == event.step_id
            and first.run_id != event.run_id
        ]
        self.need(not running, f"a step ends after the runs inside: {running}")
        if step.in_iteration:
            self.need(event.event != wanted, "a loop that ended well has ended its rounds")
        del self.steps[self._key(event)]

    @staticmethod
    def _inside(inner: Any, outer: Any) -> bool:
        if inner.parent_step_id != outer.step_id or inner is outer:
            return False
        if inner.run_id != outer.run_id:
            return True
        mine = outer.step_index if isinstance(outer.step_index, tuple) else (outer.step_index,)
        return isinstance(inner.step_index, tuple) and inner.step_index[:-1] == mine

    def _iteration(self, event: Any, step: OpenStep) -> None:
        begins = event.event == "LoopIterationStarted"
        self.need(begins != step.in_iteration, "rounds come one after the other")
        if begins:
            self.need(event.iteration > step.iteration, "rounds are counted up")
            step.iteration = event.iteration
        self.need(event.iteration == step.iteration, "a round ends as what it began")
        step.in_iteration = begins

    # -- the rest

    def _other(self, event: Any) -> None:
        if isinstance(event, BaseAgentRunEvent):
            self.need(event.run_id in self.runs, "an agent tells nothing before it has begun")
            if event.step_id is not None:
                self.need(self._open_by_id(event.step_id) is not None, "an agent's step is open")
        else:
            known = isinstance(event, BaseWorkflowRunOutputEvent | CustomEvent | StepOutputEvent)
            self.need(known and event.run_id in self.runs, "an event that belongs here")


def check_grammar(events: list[Any], root: str) -> None:
    """Assert that a stream is well formed."""
    Grammar(root).check(events)
