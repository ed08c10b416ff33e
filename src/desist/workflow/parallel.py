"""`Parallel`: steps that run at the same time."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Literal

from desist.exceptions import ConfigurationError
from desist.run.events.containers import ParallelExecutionCompletedEvent, ParallelExecutionStartedEvent
from desist.run.execution.parallel import run_parallel
from desist.run.execution.pausing import PauseRun
from desist.workflow.branch_state import BranchStates
from desist.workflow.container import Container, ContainerRun, Ended
from desist.workflow.execution import Runnable
from desist.workflow.sequence import child_position
from desist.workflow.types import StepOutput, StepType, joined

__all__ = ["Parallel"]


class Parallel(Container):
    """Steps that run at the same time, each with the same input. It ends when the last step has ended.

    Its content is the contents of all branches, each under its name (`=== name ===`), in order. Each branch works on a
    copy of the session state; their changes are merged in order when all have ended.

    Parameters:
        steps: steps, containers, agents, workflows or functions: the branches. A text as first argument is the name.
        name: the name in events and logs.
        description: its purpose.
        siblings: the effect of a branch that fails the run (`on_error="fail"`) on the others: "cancel" cancels them
            (default); "spare" lets them end first.

    Raises:
        ConfigurationError: no steps, an entry of another kind, or two names.
    """

    kind = StepType.PARALLEL
    started = ParallelExecutionStartedEvent

    def __init__(
        self,
        *steps: Any,
        name: str | None = None,
        description: str | None = None,
        siblings: Literal["cancel", "spare"] = "cancel",
    ) -> None:
        if steps and isinstance(steps[0], str):
            if name is not None:
                raise ConfigurationError(f"Parallel has two names, {steps[0]!r} and name={name!r}: leave one out")
            name, steps = steps[0], steps[1:]
        super().__init__(name, description, steps)
        if siblings not in ("cancel", "spare"):
            raise ConfigurationError(
                f"siblings={siblings!r} of Parallel {self.name!r} isn't known: use 'cancel' or 'spare'"
            )
        self.siblings = siblings

    async def work(self, stage: ContainerRun) -> Ended:
        """Run all branches and wait for all of them, also after an error or a cancel."""
        names, count = [step.name for step in self.steps], len(self.steps)
        earlier = self._load_earlier(stage, names)
        forks = BranchStates(stage.flow.parent_context.session_state, names, self.name)
        stage.flow.run.commit(lambda: setattr(stage.progress, "forks", forks))
        stage.begin(self.started, parallel_step_count=count)
        branches = [
            self._branch(stage, step, number, forks, earlier.get(step.name)) for number, step in enumerate(self.steps)
        ]
        if self.siblings == "spare":
            outputs = _first_failure(
                await run_parallel(stage.flow.run, [_shielded_branch(branch) for branch in branches])
            )
        else:
            outputs = _unless_paused(await run_parallel(stage.flow.run, [_pausing_branch(one) for one in branches]))
        forks.merge()
        made, event = stage.ended(
            ParallelExecutionCompletedEvent, outputs, parallel_step_count=count, step_results=outputs
        )
        made.content = joined((output.step_name, output.content) for output in outputs)
        made.conflicts = forks.conflicts or None
        return made, event

    async def _branch(
        self, stage: ContainerRun, step: Runnable, number: int, forks: BranchStates, earlier: StepOutput | None
    ) -> StepOutput:
        if earlier is not None and earlier.finished:
            return stage.flow.reuse(step, earlier, stage.progress)
        flow = stage.flow.with_state(forks.of(step.name))
        flow.check()
        position = child_position(number, stage.position, stage.progress, flow)
        return await step.execute(stage.given, flow, position, stage.progress, earlier)

    def _load_earlier(self, stage: ContainerRun, names: list[str]) -> dict[str, StepOutput]:
        earlier = {output.step_name or "": output for output in stage.earlier_outputs}
        for name in earlier:
            if name not in names:
                raise ConfigurationError(
                    f"can't go on from an earlier run: Parallel {self.name!r} had a branch {name!r}, and has it no"
                    " more; run it anew"
                )
        return earlier


async def _shielded_branch(branch: Coroutine[Any, Any, StepOutput]) -> StepOutput | Exception | PauseRun:
    try:
        return await branch
    except (Exception, PauseRun) as error:
        return error


async def _pausing_branch(branch: Coroutine[Any, Any, StepOutput]) -> StepOutput | PauseRun:
    """Run a branch; if it waits for a human, the others go on."""
    try:
        return await branch
    except PauseRun as pause:
        return pause


def _first_failure(ends: list[StepOutput | Exception | PauseRun]) -> list[StepOutput]:
    """Return the outputs, or raise the error of the first branch that failed."""
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return _unless_paused([end for end in ends if not isinstance(end, Exception)])


def _unless_paused(ends: list[StepOutput | PauseRun]) -> list[StepOutput]:
    """Return the outputs, or pause: all branches have ended, and some wait for a human."""
    outputs: list[StepOutput] = []
    for end in ends:
        if isinstance(end, PauseRun):
            raise end
        outputs.append(end)
    return outputs
