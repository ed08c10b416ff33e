"""`Step`: one agent or one function, tried again where that may help."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Literal

from desist.agent.agent import Agent
from desist.cancel.reason import Source
from desist.cancel.work import Interrupt
from desist.exceptions import ConfigurationError, StepError
from desist.run.agent import RunOutput
from desist.run.base import RunStatus, content_text
from desist.run.cleanup import Cleanup, check_hook, hook
from desist.run.input import input_text
from desist.run.place import Place
from desist.run.step_events import StepCompletedEvent, StepErrorEvent, StepOutputEvent
from desist.run.strict import Strict
from desist.tools.isolation import Isolation
from desist.workflow.flow import Flow, Spot
from desist.workflow.function import FunctionCall, call_function
from desist.workflow.progress import Progress
from desist.workflow.sessions import with_history
from desist.workflow.types import OnError, StepInput, StepOutput, StepType

__all__ = ["Step"]


class Step(Strict):
    """One piece of work in a workflow.

    Parameters:
        name: how it is called; the name of the agent or function if None.
        agent: who does it, or:
        executor: a function of a `StepInput`, sync or async, plain or a generator. It may also ask, by name, for
            `session_state`, `run_context`, `dependencies`, `cancel_token`. It returns a `StepOutput` or any value.
        description: what it is for.
        step_id: a stable id; made anew if None.
        max_retries: how often it is tried again after an error that says that this may help.
        on_error: "skip" records a failure and goes on (default); "fail" ends the run.
        on_cancel: a function that cleans up when this step is interrupted; it is given the `StepOutput` with what was
            done by then. Or "skip": when this step's agent alone is cancelled (`scope="run"`), go on with the next
            step instead of cancelling the workflow.
        compensate: a function that undoes this step; it is given its `StepOutput`. Called when a run is cancelled
            with `compensate=True`, for each step that has begun, the last one first.
        timeout: seconds after which the step fails, as `on_error` says. The workflow isn't cancelled by that.
        isolation: "process" runs a sync executor in a process of its own, which a cancel kills whatever it does. The
            function, what it asks for and what it returns are pickled; it works on copies.
        grace: seconds between SIGTERM and SIGKILL for such a process; None: the grace of the run.
        interrupt: how a cancel may stop a sync executor: "auto", by all means; "cooperative", by its token only;
            "never", not at all: the run waits for it, unless the cancel is forced.
        add_workflow_history: tell the agent what was asked and answered in the session's last runs; None: as the
            workflow says. A function finds it in its `StepInput`.
        num_history_runs: in how many.

    Raises:
        ConfigurationError: no executor, or more than one, or one that can't run as asked.
    """

    def __init__(
        self,
        name: str | None = None,
        agent: Agent | None = None,
        executor: Callable[..., Any] | None = None,
        *,
        description: str | None = None,
        step_id: str | None = None,
        max_retries: int = 3,
        on_error: OnError | str = OnError.skip,
        on_cancel: Literal["skip"] | Callable[..., Any] | None = None,
        compensate: Callable[..., Any] | None = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        grace: float | None = None,
        interrupt: Interrupt = "auto",
        add_workflow_history: bool | None = None,
        num_history_runs: int = 3,
    ) -> None:
        if (agent is None) == (executor is None):
            how = "both agent= and executor=" if agent is not None else "neither agent= nor executor="
            raise ConfigurationError(f"step {name!r} has {how}: it needs exactly one")
        if agent is not None and not isinstance(agent, Agent):
            raise ConfigurationError(f"agent= of step {name!r} must be an Agent, not {agent!r:.80}")
        if executor is not None and not callable(executor):
            raise ConfigurationError(f"executor= of step {name!r} must be callable, not {executor!r:.80}")
        if max_retries < 0:
            raise ConfigurationError(f"max_retries={max_retries} of step {name!r} must not be negative")
        if on_cancel != "skip":
            check_hook(on_cancel, f"on_cancel= of step {name!r}, unless it is 'skip',")
        check_hook(compensate, f"compensate= of step {name!r}")
        if num_history_runs < 0:
            raise ConfigurationError(f"num_history_runs={num_history_runs} of step {name!r} must not be negative")
        if timeout is not None and timeout <= 0:
            raise ConfigurationError(f"timeout={timeout} of step {name!r} must be more than 0 seconds")
        if agent is not None and (isolation, grace, interrupt) != ("thread", None, "auto"):
            raise ConfigurationError(
                f"isolation=, grace= and interrupt= of step {name!r} are for executor=, not agent="
            )
        self.agent = agent
        self.function = (
            FunctionCall(executor, isolation=isolation, interrupt=interrupt, grace=grace)
            if executor is not None
            else None
        )
        self.name: str = name or (agent.name or agent.id if agent is not None else self.function.name)  # type: ignore[union-attr]
        self.description = description
        self.step_id = step_id or str(uuid.uuid4())
        self.max_retries = max_retries
        self.on_error = OnError(on_error)
        self.on_cancel = on_cancel
        self.compensate = compensate
        self.timeout = timeout
        self.add_workflow_history = add_workflow_history
        self.num_history_runs = num_history_runs

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def agents(self) -> Iterator[Agent]:
        """Name the agent, if it is one."""
        if self.agent is not None:
            yield self.agent

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[Cleanup]:
        """Name the hooks that are due for what it made: its compensation, or what is to be done when interrupted."""
        if compensate and self.compensate is not None:
            yield hook(self.name, "compensate", self.compensate, output, known)
        elif not compensate and output.cancelled and callable(self.on_cancel):
            yield hook(self.name, "on_cancel", self.on_cancel, output, known)

    async def perform(self, given: StepInput, flow: Flow, spot: Spot, above: Progress) -> StepOutput:
        """Do the step; note it in `above` while it runs and when it has ended."""
        kind = StepType.STEP if self.agent is not None else StepType.FUNCTION
        progress = flow.begin(self, spot, above, kind)
        progress.executor_type = "agent" if self.agent is not None else "function"
        progress.executor_name = self.agent.name if self.agent is not None else self.name
        try:
            output = await self._attempts(given, flow, progress)
        except (Exception, SystemExit) as error:
            return self._failed(error, flow, progress, above)
        output.step_name, output.step_id, output.step_type = self.name, self.step_id, kind.value
        output.executor_type, output.executor_name = progress.executor_type, progress.executor_name
        if self.function is not None:
            flow.run.emit(StepOutputEvent(**progress.common, step_output=output))
        event = StepCompletedEvent(
            **progress.common,
            content=output.content,
            content_type=type(output.content).__name__,
            images=output.images,
            videos=output.videos,
            audio=output.audio,
            step_response=output,
        )
        return flow.end(progress, above, output, event)

    async def _attempts(self, given: StepInput, flow: Flow, progress: Progress) -> StepOutput:
        for attempt in range(self.max_retries + 1):
            try:
                if self.agent is not None:
                    return await self._run_agent(self.agent, given, flow, progress)
                return await self._call_function(given, flow, progress)
            except Exception as error:
                if attempt == self.max_retries or not getattr(error, "retryable", True):
                    raise
                flow.run.commit(progress.said.clear)
        raise AssertionError("unreachable")

    async def _call_function(self, given: StepInput, flow: Flow, progress: Progress) -> StepOutput:
        assert self.function is not None
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await call_function(self.function, given, flow, progress)
        except TimeoutError as error:
            raise self._too_long() if limit.expired() else error from None

    def _too_long(self) -> StepError:
        return StepError(f"step {self.name!r} took longer than its timeout of {self.timeout:g} s")

    async def _run_agent(self, agent: Agent, given: StepInput, flow: Flow, progress: Progress) -> StepOutput:
        place = self._place(flow, progress)
        workflow = flow.run.body.workflow  # type: ignore[attr-defined]  # the body of a workflow's run
        wanted = self.add_workflow_history
        message = await with_history(
            _message(given),
            given,
            wanted=workflow.add_workflow_history_to_steps if wanted is None else wanted,
            num_runs=workflow.num_history_runs if wanted is None else self.num_history_runs,
        )
        body = agent.body(message, place, listened=flow.listened, stream_events=flow.stream_events)
        run = agent.open(body, bound=True, skip=self.on_cancel == "skip")

        def note() -> None:  # now, not when it has ended: a cancel must find it
            progress.agent_output = body.output
            flow.agent_runs.append(body.output)

        flow.run.commit(note)
        run.limit(self.timeout, f"the timeout of step {self.name!r}", reach="own")
        output: RunOutput = await run.start(asyncio.get_running_loop()).wait_async()
        if output.status is RunStatus.cancelled:
            if run.limited_here:
                raise self._too_long()
            return self._agent_cancelled(output, flow)
        if output.status is RunStatus.error:
            words = str(run.error) or type(run.error).__name__  # the content may be what was said before the error
            error = StepError(f"step {self.name!r}: {words}")
            error.retryable = getattr(run.error, "retryable", True)
            raise error
        return StepOutput(content=output.content, step_run_id=output.run_id, metrics=output.metrics)

    def _agent_cancelled(self, output: RunOutput, flow: Flow) -> StepOutput:
        """The agent alone was cancelled: never done. The workflow goes with it, or the step says skip."""
        if self.on_cancel != "skip":
            flow.run.stop(Source.child, output.cancel.reason if output.cancel else None)
            flow.run.check()
        return StepOutput(
            content=output.content, step_run_id=output.run_id, metrics=output.metrics, success=False, cancelled=True
        )

    def _place(self, flow: Flow, progress: Progress) -> Place:
        place = flow.place
        index = progress.common["step_index"]
        return Place(
            session_id=place.session_id,
            user_id=place.user_id,
            workflow_id=place.workflow_id,
            workflow_name=place.workflow_name,
            workflow_run_id=flow.run.run_id,
            step_id=self.step_id,
            step_name=self.name,
            step_index=index,
            nested_depth=progress.common["nested_depth"],
            session_state=place.session_state,
            dependencies=place.dependencies,
            metadata=place.metadata,
        )

    def _failed(self, error: BaseException, flow: Flow, progress: Progress, above: Progress) -> StepOutput:
        """Record the failure; go on, or fail the run."""
        words = str(error) or type(error).__name__
        if self.on_error is OnError.fail:
            flow.run.emit(StepErrorEvent(**progress.common, error=words))
            if flow.run.spans is not None:
                flow.run.spans.end_step(progress, error=words)
            raise error if isinstance(error, StepError) else StepError(f"step {self.name!r}: {words}") from error
        output = StepOutput(
            step_name=self.name,
            step_id=self.step_id,
            step_type=progress.step_type,
            executor_type=progress.executor_type,
            executor_name=progress.executor_name,
            content=progress.partial(),
            success=False,
            error=words,
        )
        return flow.end(progress, above, output, StepErrorEvent(**progress.common, error=words))


def _message(given: StepInput) -> str:
    """Return what an agent is asked: the content of the step before, or the workflow's input."""
    content = given.previous_step_content
    return input_text(content_text(content) if content is not None else given.input if given.input is not None else "")
