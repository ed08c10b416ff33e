"""`Step`: one agent, function or nested workflow, with retries."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn

from desist.agent.agent import Agent
from desist.calls.base import InterruptMode
from desist.exceptions import ConfigurationError, StepError
from desist.run.events.steps import StepCompletedEvent, StepErrorEvent, StepOutputEvent, StepProgressEvent
from desist.run.execution.cleanup import CleanupHook, bind_hook, check_hook
from desist.run.options.idempotency import set_work_key
from desist.run.options.strict import reject_unknown_options
from desist.run.records.ids import id_text
from desist.run.records.json_values import error_text
from desist.run.records.step_requirement import ErrorRequirement
from desist.tools.isolation import Isolation
from desist.workflow.child_run import run_child
from desist.workflow.execution import ChildWorkflow, Runnable, StepPosition, WorkflowExecution
from desist.workflow.human_gate import Retry, pass_gate, review_output, skipped, with_feedback, with_user_input
from desist.workflow.human_review import HumanReview, OnReject, OnTimeout, marked, review_of
from desist.workflow.step_function import StepFunction, call_function
from desist.workflow.step_state import StepState
from desist.workflow.types import OnError, StepInput, StepOutput, StepType

__all__ = ["Step"]


@reject_unknown_options
class Step:
    """One piece of work in a workflow.

    Parameters:
        name: the name in events and logs; that of the agent, function or workflow if None.
        agent: the agent that does the work, or:
        workflow: a workflow that does the work, as a child run, or:
        executor: a function of a `StepInput`, sync or async, plain or a generator. It may also ask, by name, for
            `session_state`, `run_context`, `dependencies`, `cancel_token`. It returns a `StepOutput` or any value.
        description: its purpose.
        step_id: a stable id; a new one if None.
        max_retries: how often the step is tried again after an error that is retryable.
        skip_on_failure: another way to say on_error="skip".
        on_error: "skip" records a failure and runs the next step (default); "fail" ends the run.
        on_cancel: a function that cleans up when this step is interrupted, called with the partial
            `StepOutput`. Or "skip": when this step's agent or workflow alone is cancelled (`scope="run"`), run
            the next step instead of cancelling the workflow.
        compensate: a function that undoes this step, called with its `StepOutput`. Called when a run is cancelled
            with `compensate=True`, for each step that has begun, the last one first.
        timeout: seconds after which the step fails, as `on_error` says. The workflow is not cancelled.
        isolation: "process" runs a sync executor in a worker process, which a cancel kills. The function, its
            arguments and its result are pickled; it works on copies.
        grace: seconds between SIGTERM and SIGKILL for such a process; None: the grace of the run.
        interrupt: how a cancel may stop a sync executor: "auto", in every way; "cooperative", by its token only;
            "never", not at all: the run waits for the executor, unless the cancel is forced.
        add_workflow_history: give the agent the inputs and answers of the session's last runs; None: as set on the
            workflow. A function finds them in its `StepInput`.
        num_history_runs: how many runs that is.
        human_review: what the step waits for, before it runs or after; see `HumanReview`. The other parameters are its
            fields, one by one: `hitl_max_retries` is `max_retries`, `hitl_timeout` is `timeout`.

    Raises:
        ConfigurationError: no executor, more than one, or an option that the executor doesn't support.
    """

    def __init__(
        self,
        name: str | None = None,
        agent: Agent | None = None,
        executor: Callable[..., Any] | None = None,
        *,
        workflow: ChildWorkflow | None = None,
        description: str | None = None,
        step_id: str | None = None,
        max_retries: int = 3,
        skip_on_failure: bool = False,
        on_error: OnError | str | None = None,
        on_cancel: Literal["skip"] | Callable[..., Any] | None = None,
        compensate: Callable[..., Any] | None = None,
        timeout: float | None = None,
        isolation: Isolation = "thread",
        grace: float | None = None,
        interrupt: InterruptMode = "auto",
        add_workflow_history: bool | None = None,
        num_history_runs: int = 3,
        human_review: HumanReview | None = None,
        requires_confirmation: bool | None = None,
        confirmation_message: str | None = None,
        requires_user_input: bool | None = None,
        user_input_message: str | None = None,
        user_input_schema: list[dict[str, Any]] | None = None,
        requires_output_review: bool | Callable[..., bool] | None = None,
        output_review_message: str | None = None,
        on_reject: OnReject | str | None = None,
        hitl_max_retries: int | None = None,
        hitl_timeout: float | None = None,
        on_timeout: OnTimeout | str | None = None,
    ) -> None:
        _check_work(name, agent=agent, executor=executor, workflow=workflow)
        if max_retries < 0:
            raise ConfigurationError(f"max_retries={max_retries} of step {name!r} must not be negative")
        if on_cancel != "skip":
            check_hook(on_cancel, f"on_cancel= of step {name!r}, unless it is 'skip',")
        check_hook(compensate, f"compensate= of step {name!r}")
        if num_history_runs < 0:
            raise ConfigurationError(f"num_history_runs={num_history_runs} of step {name!r} must not be negative")
        if timeout is not None and timeout <= 0:
            raise ConfigurationError(f"timeout={timeout} of step {name!r} must be more than 0 seconds")
        if executor is None and (isolation, grace, interrupt) != ("thread", None, "auto"):
            what = "agent=" if agent is not None else "workflow="
            raise ConfigurationError(
                f"isolation=, grace= and interrupt= of step {name!r} are for executor=, not {what}"
            )
        self.agent: Agent | None = agent
        self.workflow: ChildWorkflow | None = workflow
        self.function = (
            StepFunction(executor, isolation=isolation, interrupt=interrupt, grace=grace)
            if executor is not None
            else None
        )
        named, review = marked(executor)
        self.name: str = name or named or self._default_name()
        flat = {
            "requires_confirmation": requires_confirmation,
            "confirmation_message": confirmation_message,
            "requires_user_input": requires_user_input,
            "user_input_message": user_input_message,
            "user_input_schema": user_input_schema,
            "requires_output_review": requires_output_review,
            "output_review_message": output_review_message,
            "on_reject": on_reject,
            "max_retries": hitl_max_retries,
            "timeout": hitl_timeout,
            "on_timeout": on_timeout,
        }
        allowed = ("confirmation", "user_input", "output_review")
        self.human_review = review_of(f"step {self.name!r}", human_review or review, allowed, flat)
        self.description = description
        self.step_id = id_text(step_id, "step_id") or str(uuid.uuid4())
        self.max_retries = max_retries
        reviewed = human_review.on_error if human_review is not None and on_error is None else on_error
        self.on_error = _on_error(name, reviewed, skip_on_failure)
        self.on_cancel = on_cancel
        self.compensate = compensate
        self.timeout = timeout
        self.add_workflow_history = add_workflow_history
        self.num_history_runs = num_history_runs

    def _default_name(self) -> str:
        if self.function is not None:
            return self.function.name
        worker = self.agent or self.workflow
        assert worker is not None
        return worker.name or worker.id

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def children(self) -> Sequence[Runnable]:
        """Return the steps of the nested workflow, if there is one."""
        return self.workflow.steps if self.workflow is not None else ()

    def agents(self) -> Iterator[Agent]:
        """Yield the agent, and those of the nested workflow."""
        if self.agent is not None:
            yield self.agent
        for step in self.children():
            yield from step.agents()

    def cleanups(self, output: StepOutput, known: dict[str, Any], *, compensate: bool) -> Iterator[CleanupHook]:
        """Yield its compensation, or the hook of an interrupted step."""
        if compensate and self.compensate is not None:
            yield bind_hook(self.name, "compensate", self.compensate, output, known)
        elif not compensate and output.cancelled and callable(self.on_cancel):
            yield bind_hook(self.name, "on_cancel", self.on_cancel, output, known)

    async def execute(
        self,
        step_input: StepInput,
        flow: WorkflowExecution,
        position: StepPosition,
        parent: StepState,
        earlier_output: StepOutput | None = None,
    ) -> StepOutput:
        """Run the step; record its state in `parent` while it runs and when it has ended."""
        kind, executor_type = self._kind()
        progress = flow.begin(self, position, parent, kind)
        worker = self.agent or self.workflow
        progress.executor_type = executor_type
        progress.executor_name = worker.name if worker is not None else self.name
        passed = pass_gate(self.human_review, flow, progress)
        if passed.values:
            step_input = with_user_input(step_input, passed.values)
        failed = flow.pauses.take(progress, "step_error")
        if failed is not None and failed.decision != "retry":
            return flow.fail(progress, parent, failed.requirement.error_message)
        try:
            found = self._reviewed_before(step_input, flow, progress)
            if passed.decision == "skip":
                output = skipped(step_input)
            elif isinstance(found, StepOutput):
                output = found
            else:
                if found is not None:  # a new try, not the continuation of the one that was rejected
                    step_input, earlier_output = with_feedback(step_input, found.feedback), None
                output = await self._attempts(step_input, flow, progress, earlier_output)
                self._ask_for_review(output, flow, progress, found.count if found is not None else 0)
        except (Exception, SystemExit) as error:
            if self.on_error is OnError.pause and not flow.branch_cancelled():
                self._ask_about(error, flow, progress, 0 if failed is None else failed.requirement.retry_count + 1)
            return self._failed(error, flow, progress, parent)
        finally:
            set_work_key(None)
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
        return flow.end(progress, parent, output, event)

    def _reviewed_before(
        self, step_input: StepInput, flow: WorkflowExecution, progress: StepState
    ) -> StepOutput | Retry | None:
        """Return the output that a human has reviewed, or that the step runs again; None: there was no review."""
        if not self.human_review.requires_output_review:
            return None
        found = review_output(self.human_review, flow, progress, None)
        return skipped(step_input) if found == "skip" else found

    def _ask_for_review(self, output: StepOutput, flow: WorkflowExecution, progress: StepState, rejected: int) -> None:
        """Pause, if a human is to review the output."""
        if self.human_review.requires_output_review:
            review_output(self.human_review, flow, progress, output, rejected)

    def _ask_about(
        self, error: BaseException, flow: WorkflowExecution, progress: StepState, retry_count: int
    ) -> NoReturn:
        """Pause: a human decides whether the failed step is tried again."""
        message = error_text(error)
        requirement = ErrorRequirement(error_message=message, error_type=type(error).__name__, retry_count=retry_count)
        event = StepErrorEvent(**progress.common, error=message)
        flow.pauses.ask(flow.run, progress, requirement, event, self.human_review)

    def _kind(self) -> tuple[StepType, str]:
        if self.agent is not None:
            return StepType.STEP, "agent"
        return (StepType.WORKFLOW, "workflow") if self.workflow is not None else (StepType.FUNCTION, "function")

    async def _attempts(
        self, step_input: StepInput, flow: WorkflowExecution, progress: StepState, earlier_output: StepOutput | None
    ) -> StepOutput:
        key = f"{flow.run.key}:{progress.path()}"
        for attempt in range(self.max_retries + 1):
            set_work_key(f"{key}:{attempt + 1}")
            await flow.run.confirm_ownership()
            try:
                if self.function is not None:
                    return await self._call_function(self.function, step_input, flow, progress)
                return await run_child(self, step_input, flow, progress, earlier_output)
            except Exception as error:
                last = attempt == self.max_retries or not getattr(error, "retryable", True)
                if last or flow.branch_cancelled():
                    raise
                message = f"attempt {attempt + 1} of {self.max_retries + 1} failed: {error_text(error)}"
                event = StepProgressEvent(**progress.common, attempt=attempt + 2, content=message)
                flow.run.emit(event, progress.content_pieces.clear)
        raise AssertionError("unreachable")

    async def _call_function(
        self, call: StepFunction, step_input: StepInput, flow: WorkflowExecution, progress: StepState
    ) -> StepOutput:
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await call_function(call, (step_input,), call.arguments(flow), flow, progress)
        except TimeoutError as error:
            raise self.timeout_error() if limit.expired() else error from None

    def timeout_error(self) -> StepError:
        """Return the error of a step that took longer than its timeout."""
        return StepError(f"step {self.name!r} took longer than its timeout of {self.timeout:g} s")

    def _failed(
        self, error: BaseException, flow: WorkflowExecution, progress: StepState, parent: StepState
    ) -> StepOutput:
        """Record the failure; go on, or fail the run."""
        message = error_text(error)
        output = flow.fail(progress, parent, message)
        if self.on_error is OnError.skip:
            return output
        failure = error if isinstance(error, StepError) else StepError(f"step {self.name!r}: {message}")
        failure.retryable = False  # the outer step must not repeat the retries
        raise failure from (None if failure is error else error)


def _check_work(name: str | None, **work: Any) -> None:
    """Check that a step has exactly one of an agent, an executor, a workflow, of the right type."""
    given = [f"{key}=" for key, value in work.items() if value is not None]
    if len(given) != 1:
        how = f"both {' and '.join(given)}" if given else "neither agent= nor executor= nor workflow="
        raise ConfigurationError(f"step {name!r} has {how}: it needs exactly one")
    agent, executor, workflow = work["agent"], work["executor"], work["workflow"]
    if agent is not None and not isinstance(agent, Agent):
        raise ConfigurationError(f"agent= of step {name!r} must be an Agent, not {agent!r:.80}")
    if executor is not None and not callable(executor):
        raise ConfigurationError(f"executor= of step {name!r} must be callable, not {executor!r:.80}")
    if workflow is not None and not isinstance(workflow, ChildWorkflow):
        raise ConfigurationError(f"workflow= of step {name!r} must be a Workflow, not {workflow!r:.80}")


def _on_error(name: str | None, on_error: OnError | str | None, skip: bool) -> OnError:
    try:
        wanted = OnError(on_error) if on_error is not None else OnError.skip
    except ValueError:
        raise ConfigurationError(
            f"on_error={on_error!r} of step {name!r} isn't known: use 'skip', 'fail' or 'pause'"
        ) from None
    if skip and wanted is OnError.fail:
        raise ConfigurationError(f"step {name!r} has skip_on_failure=True and on_error='fail': leave one out")
    return wanted
