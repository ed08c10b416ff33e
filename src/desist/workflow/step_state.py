"""`StepState`: the progress of a step: finished steps inside it, and its text so far.

Each running step has a `StepState`, in a tree like the tree of the steps. Changed only through the run
(`emit`, `commit`), so that nothing is added after the cancel decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
    """A step that has begun."""

    common: dict[str, Any]  #: the fields that its events carry
    step_type: str
    parent: StepState | None = None  #: the step around it
    executor_type: str | None = None
    executor_name: str | None = None
    started_event_sent: bool = False  #: whether its started event was emitted; else a cancel emits no end
    done: list[StepOutput] = field(default_factory=list)  #: outputs of finished steps below
    open: list[StepState] = field(default_factory=list)
    content_pieces: list[str] = field(default_factory=list)  #: text that a function has yielded
    output: StepOutput | None = None  #: its output, once it has ended
    child_output: Any = None  #: the output of its child run
    child_body: RunBody | None = None  #: the body of its child run
    child_begun: Sequence[Any] = ()  #: the started steps of its child workflow
    chosen: list[str] | None = None  #: the decision of a Condition or Router
    forks: BranchStates | None = None  #: of a Parallel: the session states of its branches
    round: int = 0  #: of a Loop: the number of the current round, from 1 on
    began_at: float = field(default_factory=time.monotonic)  #: seconds of `time.monotonic`

    def path(self) -> str:
        """Return its path for an idempotency key: `1-check`; in the second round of a Loop, `0-Loop#2.1-check`."""
        index = self.common.get("step_index", 0)
        own = (
            f"{index[-1] if isinstance(index, tuple) else index}-{escape_key_part(self.common.get('step_name') or '')}"
        )
        parent = self.parent
        if parent is None or parent.parent is None:
            return own
        return f"{parent.path()}{f'#{parent.round}' if parent.round else ''}.{own}"

    def partial(self) -> Any:
        """Return the content that has arrived so far."""
        if self.child_output is not None:
            content = self.child_output.content
            return content if content is not None or self.child_body is None else self.child_body.partial_content()
        if self.content_pieces:
            return "".join(self.content_pieces)
        contents = [(output.step_name, output.content) for output in self.done]
        contents += [(child.common.get("step_name"), child.partial()) for child in self.open]
        if self.forks is not None:
            return joined(self.forks.in_order(contents, lambda pair: pair[0]))
        known = [content for _, content in contents if content is not None]
        return known[-1] if known else None

    def interrupted(self) -> StepOutput:
        """Return the output of a cancelled step, with the finished steps inside it."""
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
        """Return the output of a failed step."""
        output = self.interrupted()
        output.cancelled, output.error = False, message
        return output

    def close_paused(self) -> None:
        """End the open steps below, the innermost first: their outputs wait for the continuation of the run."""
        for child in list(self.open):
            child.close_paused()
            output = child.interrupted()
            output.cancelled, output.is_paused = False, True
            self._close(child, output)

    def merge_branches(self) -> None:
        """Merge the states of finished branches, the innermost first. Called when nothing runs below any more."""
        for child in self.open:
            child.merge_branches()
        if self.forks is not None:
            self.forks.merge()

    def cancel_open_steps(self, reason: str | None) -> Iterator[tuple[StepCancelledEvent | None, Callable[[], None]]]:
        """Yield for each open step below, the innermost first, its event or None and a function that ends it.

        The function must be called before the next pair is requested.
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
