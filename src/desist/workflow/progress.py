"""How far a step is: what has finished below it, what it has said. A cancel reads it and changes nothing that is done.

One `Progress` a step that runs, in a tree like the steps'. Changed only through the run (`emit`, `commit`), so that
nothing is added after the outcome is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from desist.run.base import content_text
from desist.run.step_events import StepCancelledEvent
from desist.workflow.types import StepOutput

__all__ = ["Progress"]


@dataclass(slots=True, eq=False)
class Progress:
    """A step that has begun and not ended."""

    common: dict[str, Any]  #: what its events carry
    step_type: str
    executor_type: str | None = None
    executor_name: str | None = None
    done: list[StepOutput] = field(default_factory=list)  #: what finished below it
    open: list[Progress] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  #: pieces of a function's text
    output: StepOutput | None = None  #: what it made, once it has ended
    agent_output: Any = None  #: the output of the agent's run that does the step

    def partial(self) -> Any:
        """Return what it has said by now."""
        if self.agent_output is not None:
            return self.agent_output.content
        if self.said:
            return "".join(self.said)
        contents = [output.content for output in self.done] + [child.partial() for child in self.open]
        told = [content for content in contents if content is not None]
        return told[-1] if told else None

    def interrupted(self) -> StepOutput:
        """Return the step as a cancel leaves it: finished parts as they are, itself cancelled."""
        below = [*self.done, *(child.interrupted() for child in self.open)]
        return StepOutput(
            step_name=self.common.get("step_name"),
            step_id=self.common.get("step_id"),
            step_type=self.step_type,
            executor_type=self.executor_type,
            executor_name=self.executor_name,
            step_run_id=getattr(self.agent_output, "run_id", None),
            content=self.partial(),
            metrics=getattr(self.agent_output, "metrics", None),
            success=False,
            cancelled=True,
            steps=below or None,
        )

    def closing(self, reason: str | None) -> list[Any]:
        """Return the closing events of this step and all that is open below it, the innermost first."""
        events = [event for child in self.open for event in child.closing(reason)]
        output = self.interrupted()
        text = None if output.content is None else content_text(output.content)
        events.append(StepCancelledEvent(**self.common, content=text, reason=reason, step_response=output))
        return events
