"""How far a step is: what has finished below it, what it has said. A cancel reads it and changes nothing that is done.

One `StepState` a step that runs, in a tree like the steps'. Changed only through the run (`emit`, `commit`), so that
nothing is added after the outcome is decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from desist.run.events.base import content_text
from desist.run.events.steps import StepCancelledEvent
from desist.run.options.idempotency import escape_key_part
from desist.workflow.types import StepOutput, joined

if TYPE_CHECKING:
    from desist.run.execution.body import RunBody
    from desist.workflow.branch_state import BranchStates

__all__ = ["StepState"]


@dataclass(slots=True, eq=False)
class StepState:
    """A step that has begun and not ended."""

    common: dict[str, Any]  #: what its events carry
    step_type: str
    above: StepState | None = None  #: what it stands in
    executor_type: str | None = None
    executor_name: str | None = None
    started_event_sent: bool = False  #: its first event is out; a cancel that comes before has nothing to close
    done: list[StepOutput] = field(default_factory=list)  #: what finished below it
    open: list[StepState] = field(default_factory=list)
    content_pieces: list[str] = field(default_factory=list)  #: pieces of a function's text
    output: StepOutput | None = None  #: what it made, once it has ended
    child_output: Any = None  #: the output of the agent's or workflow's run that does the step
    child_body: RunBody | None = None  #: of that run
    child_begun: list[Any] = field(default_factory=list)  #: what has begun in the workflow's run that does the step
    chosen: list[str] | None = None  #: what a Condition or Router has decided
    forks: BranchStates | None = None  #: of a Parallel: the state of each branch
    round: int = 0  #: of a Loop: which one it is in, from 1 on
    began_at: float = field(default_factory=time.monotonic)  #: seconds of `time.monotonic`

    def path(self) -> str:
        """Return its place for an idempotency key: `1-check`, and in the second round of a Loop `0-Loop#2.1-check`."""
        index = self.common.get("step_index", 0)
        own = (
            f"{index[-1] if isinstance(index, tuple) else index}-{escape_key_part(self.common.get('step_name') or '')}"
        )
        above = self.above
        if above is None or above.above is None:
            return own
        return f"{above.path()}{f'#{above.round}' if above.round else ''}.{own}"

    def partial(self) -> Any:
        """Return what it has said by now."""
        if self.child_output is not None:
            told = self.child_output.content
            return told if told is not None or self.child_body is None else self.child_body.partial_content()
        if self.content_pieces:
            return "".join(self.content_pieces)
        contents = [(output.step_name, output.content) for output in self.done]
        contents += [(child.common.get("step_name"), child.partial()) for child in self.open]
        if self.forks is not None:
            return joined(self.forks.in_order(contents, lambda pair: pair[0]))
        told = [content for _, content in contents if content is not None]
        return told[-1] if told else None

    def interrupted(self) -> StepOutput:
        """Return the step as a cancel leaves it: finished parts as they are, itself cancelled."""
        below = [*self.done, *(child.interrupted() for child in self.open)]
        if self.forks is not None:
            below = self.forks.in_order(below, lambda output: output.step_name)
        return StepOutput(
            step_name=self.common.get("step_name"),
            step_id=self.common.get("step_id"),
            step_type=self.step_type,
            executor_type=self.executor_type,
            executor_name=self.executor_name,
            step_run_id=getattr(self.child_output, "run_id", None),
            content=self.partial(),
            metrics=getattr(self.child_output, "metrics", None),
            duration=time.monotonic() - self.began_at,
            success=False,
            cancelled=True,
            steps=below or getattr(self.child_output, "step_results", None) or None,
            chosen=self.chosen,
            conflicts=self.forks.conflicts or None if self.forks is not None else None,
        )

    def failed(self, message: str) -> StepOutput:
        """Return the step as an error leaves it."""
        output = self.interrupted()
        output.cancelled, output.error = False, message
        return output

    def merge_branches(self) -> None:
        """Nothing finishes below it any more: let what finished in branches count, the innermost first."""
        for child in self.open:
            child.merge_branches()
        if self.forks is not None:
            self.forks.merge()

    def cancel_open_steps(self, reason: str | None) -> Iterator[tuple[StepCancelledEvent | None, Callable[[], None]]]:
        """Close what is open below it, the innermost first: for each the event, if any, and what moves it to `done`.

        Each move must be made before the next one is asked for.
        """
        for child in list(self.open):
            yield from child.cancel_open_steps(reason)
            output = child.interrupted()
            text = None if output.content is None else content_text(output.content)
            event = StepCancelledEvent(**child.common, content=text, reason=reason, step_response=output)
            yield (
                event if child.started_event_sent else None,
                lambda child=child, output=output: self._close(child, output),  # type: ignore[misc]
            )

    def _close(self, child: StepState, output: StepOutput) -> None:
        self.open.remove(child)
        self.done.append(output)
        child.output = output
