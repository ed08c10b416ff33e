"""`Workflow`: steps, run as one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.component.awaitable import awaitable
from desist.run.component.component import Component
from desist.run.component.options import SubmitOptions, WorkflowOptions, apply_limits
from desist.run.component.pause_continuation import TakenRun
from desist.run.component.step_opening import take_opening
from desist.run.component.submitted_run import SubmittedRun
from desist.run.component.submitted_runs import SubmittedRuns
from desist.run.execution.run import Run, new_id
from desist.run.execution.session_binding import SessionBinding
from desist.run.options.parent_context import ParentContext
from desist.run.outputs.input import check_input
from desist.run.records.ids import id_text
from desist.run.records.metrics import Usage
from desist.run.records.requirement import Answer
from desist.run.records.step_requirement import StepRequirement
from desist.run.storage.queue_store import ClaimedRun
from desist.run.storage.store import Database, RunStore
from desist.run.storage.values import Durability
from desist.run.workflow import WorkflowRunOutput
from desist.streams.reader import AsyncReader, SyncReader
from desist.value_type import ValueType
from desist.workflow.branch_state import copy_state
from desist.workflow.config import WorkflowConfig
from desist.workflow.execution import Runnable, WorkflowExecution
from desist.workflow.recovery import Recovery, checked_durability, checked_on_crash
from desist.workflow.run_body import WorkflowRunBody
from desist.workflow.step_list import check_tree, coerce_steps
from desist.workflow.submission import Submission
from desist.workflow.terminal_events import terminal_event
from desist.workflow.types import MEDIA, StepInput, StepOutput
from desist.workflow.validation import checked_input, checked_names
from desist.workflow.workflow_function import WorkflowFunction

__all__ = ["Workflow"]


class Workflow(Component[WorkflowRunOutput, Any]):
    """Steps that run, and are cancelled, as one run.

    Parameters:
        name: the name in events and logs.
        id: a stable id; made from the name if None.
        description: its purpose.
        steps: steps, containers, agents, workflows, functions of a `StepInput`; or one container; or a function that
            is the whole workflow, see `desist.workflow.workflow_function.WorkflowFunction`.
        db: the database of runs and sessions, such as `SqliteDb(...)`; None keeps the last ones in memory.
        session_state: the initial `session_state` of a session, shared by functions and tools. Each run works on the
            dict that it is given, or a new one, with the state that the earlier runs of the session left.
        overwrite_db_session_state: a run ignores the stored state, and replaces it at its end.
        add_workflow_history_to_steps: give agents the inputs and answers of the session's last runs.
        num_history_runs: how many runs that is.
        dependencies: functions and tools get it as `dependencies`.
        metadata: stored with the run.
        timeout: seconds after which a run is cancelled, with source `deadline`.
        grace: seconds for cleanup after a cancel, before calls that still run are abandoned.
        on_cancel: a function that cleans up after a cancel, called with the output.
        on_crash: how a run ends whose process has died: "mark" ends it as an error; "resume" leaves it to
            `resume_lost_runs()`, in any process. For databases that outlive a process.
        durability: what the database keeps of a run while it goes on, see `docs/durability.md`. "full": its start,
            cancel, events, checkpoints of what has finished, and end; "events": no checkpoints; "ends": neither
            checkpoints nor events.
        compensate: a cancel undoes finished steps, by their `compensate` functions.
        input_schema: the type of the input: whatever pydantic's `TypeAdapter` takes, or a JSON schema. The input is
            validated before the run, and converted to the type.
        stream, stream_events: defaults of `run`.
        stream_executor_events: emit the events of agents in steps, text included.
        store_events: keep the events in the output, as `output.events`.
        events_to_skip: names of events that are not stored. None: only text is left out.
        store_executor_outputs: keep the outputs of agents and workflows in steps, as `output.step_executor_runs`.
        user_id, session_id: defaults of `run`. Without any session id, a workflow with a `db` keeps one session for
            all its runs; without one, each run has a session of its own.
        debug_mode: write the log of desist, from level DEBUG on, to standard error.
        telemetry: accepted for compatibility; desist sends nothing.

    Raises:
        ConfigurationError: a step or value can't be used; the message names it.
        UnsupportedError: a parameter that desist doesn't have.
    """

    _kind = "workflow"
    _described = "a Workflow"
    options_type = WorkflowOptions
    _kept_options = (*Component._kept_options, "additional_data")
    _input_type: ValueType | None = None

    def __init__(
        self,
        name: str | None = None,
        *,
        id: str | None = None,
        description: str | None = None,
        steps: Sequence[Any] | Runnable | Callable[..., Any] | None = None,
        db: Database | RunStore | None = None,
        session_state: dict[str, Any] | None = None,
        overwrite_db_session_state: bool = False,
        add_workflow_history_to_steps: bool = False,
        num_history_runs: int = 3,
        dependencies: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        on_cancel: Callable[..., Any] | None = None,
        on_crash: Literal["mark", "resume"] = "mark",
        durability: Durability = "full",
        compensate: bool = False,
        input_schema: Any = None,
        stream: bool = False,
        stream_events: bool = False,
        stream_executor_events: bool = True,
        store_events: bool = False,
        events_to_skip: Sequence[Any] | None = None,
        store_executor_outputs: bool = True,
        user_id: str | None = None,
        session_id: str | None = None,
        debug_mode: bool = False,
        telemetry: bool = True,
    ) -> None:
        self.name = name
        self.id = id_text(id, "id") or (name or "workflow").lower().replace(" ", "-")
        self.description = description
        self.program: WorkflowFunction | None = None  #: the function that does everything itself, if it is one
        if callable(steps) and not isinstance(steps, type) and not hasattr(steps, "execute"):
            self.program, steps = WorkflowFunction(steps), None
        entries: Any = [steps] if hasattr(steps, "execute") else steps or []
        self.steps: list[Runnable] = coerce_steps(entries, f"workflow {self.id!r}")
        self.db = db
        self.session_state = session_state
        self.overwrite_db_session_state = overwrite_db_session_state
        self.add_workflow_history_to_steps = add_workflow_history_to_steps
        self.num_history_runs = num_history_runs
        self.dependencies = dependencies
        self.metadata = metadata
        self.timeout = timeout
        self.grace = grace
        self.on_cancel = on_cancel
        self.on_crash = checked_on_crash(on_crash, f"workflow {self.id!r}", db)
        self.durability = checked_durability(durability, self.on_crash, f"workflow {self.id!r}")
        self.compensate = compensate
        self.input_schema = input_schema
        self.stream = stream
        self.stream_events = stream_events
        self.stream_executor_events = stream_executor_events
        self.store_events = store_events
        self.events_to_skip = checked_names(events_to_skip, f"workflow {self.id!r}")
        self.store_executor_outputs = store_executor_outputs
        self.user_id = user_id
        self.session_id = session_id
        self.debug_mode = debug_mode
        self.telemetry = telemetry
        self._set_up()
        self.input_type()

    # -- what a run needs

    def input_type(self) -> ValueType | None:
        """Return the type of the input. Read once, and again when `input_schema` was changed.

        Raises:
            ConfigurationError: no JSON schema can be made of it.
        """
        if self.input_schema is None:
            return None
        if self._input_type is None or self._input_type.given is not self.input_schema:
            self._input_type = ValueType(self.input_schema, f"input_schema= of workflow {self.id!r}")
        return self._input_type

    def config(self) -> WorkflowConfig:
        """Return the settings of a run that is opened now."""
        return WorkflowConfig(
            workflow=self,
            id=self.id,
            name=self.name,
            steps=self.steps,
            program=self.program,
            compensate=self.compensate,
            resumable=self.on_crash == "resume",
            durability=self.durability,
            on_cancel=self.on_cancel,
            history=(self.add_workflow_history_to_steps, self.num_history_runs),
            stream_executor_events=self.stream_executor_events,
            store_events=self.store_events,
            events_to_skip=self.events_to_skip,
            store_executor_outputs=self.store_executor_outputs,
        )

    def check(self, inside: tuple[object, ...] = ()) -> None:
        """Check the steps and everything in them before a run; see `check_tree`.

        Raises:
            ConfigurationError: something is missing or wrong; the message says what, and in which step.
        """
        what = f"workflow {self.id!r}"
        if not self.steps and self.program is None:
            raise ConfigurationError(f"{what} has no steps: give it some, steps=[...]")
        check_tree(self.steps, what, inside or (self,))

    def open_as_child(
        self,
        step_input: StepInput,
        parent: ParentContext,
        flow: WorkflowExecution,
        *,
        skip: bool,
        earlier_outputs: Sequence[StepOutput] = (),
        bound: bool = True,
    ) -> Run:
        """Register a run of this workflow for a step of another one. For steps; programs call `run`."""
        input = checked_input(self.input_type(), step_input.input, f"workflow {self.id!r}")
        for key, value in copy_state(self.session_state or {}).items():
            parent.session_state.setdefault(key, value)
        body = WorkflowRunBody(
            self.config(),
            replace(step_input, input=input),
            parent,
            has_reader=flow.listened or not bound,
            stream_events=flow.stream_events,
            earlier_outputs=earlier_outputs,
        )
        body.earlier_runs = flow.earlier_runs
        run = self._register(body, new_id(), bound=bound, skip=skip)
        with run.withdrawn_on_error():
            run.limits.set_deadline(self.timeout, f"the timeout of workflow {self.id!r}")
        return run

    def _open(
        self,
        input: Any,
        options: dict[str, Any],
        *,
        stream: bool,
        stream_events: bool | None,
        replay: bool = False,
        earlier: WorkflowRunOutput | None = None,
    ) -> Run:
        if (opening := take_opening(self)) is not None:
            return opening.open(input, options, stream=stream)
        what = f"workflow {self.id!r}"
        input_type = self.input_type()
        if input_type is None:
            check_input(input, what, required=False)
        input = checked_input(input_type, input, what)
        self.check()
        events = self.stream_events if stream_events is None else stream_events
        media = {kind: options[kind] for kind in MEDIA}
        step_input = StepInput(input=input, additional_data=options["additional_data"], **media)
        parent = self.parent_context(options)
        body = WorkflowRunBody(self.config(), step_input, parent, has_reader=stream, stream_events=stream and events)
        taken: TakenRun | None = options.get("paused")
        if earlier is not None:
            body.continue_from(earlier)
        if earlier is not None and taken is not None:
            body.resume_from(earlier, taken.requirements)
        first_event = options.get("first_event", 0) if taken is None else taken.stored.next_event
        body.on_cancel, body.first_event_index = options["on_cancel"], first_event
        body.in_session = SessionBinding(
            "workflow", self.id, parent, defaults=self.session_state, overwrite=self.overwrite_db_session_state
        )
        run = self._register(body, options["run_id"] or new_id(), replay=replay)
        with run.withdrawn_on_error():
            if "kept" not in options:
                run.limits.set_deadline(self.timeout, f"the timeout of {what}")
            apply_limits(run, options)
        self._last_session = parent.session_id
        return run

    def answers_in(self, output: Any, given: Mapping[str, Any]) -> dict[str, Answer]:
        """Return the answers in `step_requirements` or the output of a paused run. For services."""
        if "requirements" in given or "updated_tools" in given:
            raise UnsupportedError("continue_run() of a Workflow takes step_requirements=, not requirements=")
        steps = given.get("step_requirements")
        if steps is None:
            steps = getattr(output, "step_requirements", None) or []
        found: list[Any] = [
            one if isinstance(one, StepRequirement) else StepRequirement.from_dict(one) for one in steps
        ]
        inner = [one for step in found for one in step.executor_requirements or ()]
        found += [*inner, *(getattr(output, "error_requirements", None) or [])]
        made = {one.id: one.to_answer() for one in found}
        return {requirement_id: answer for requirement_id, answer in made.items() if answer is not None}

    def terminal_event(self, output: WorkflowRunOutput) -> Any:
        """Return the terminal event of a run that has ended, made from its output."""
        return terminal_event(output)

    def parent_context(self, options: Mapping[str, Any]) -> ParentContext:
        """Return the context of a new run. For services."""
        lasting = self.db is not None
        return self._parent_context(options, lasting=lasting, workflow_id=self.id, workflow_name=self.name)

    # -- running

    @overload
    def run(
        self,
        input: Any = None,
        *,
        stream: Literal[True],
        stream_events: bool | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> SyncReader[Any]: ...
    @overload
    def run(
        self, input: Any = None, *, stream: Literal[False] | None = None, **options: Unpack[WorkflowOptions]
    ) -> WorkflowRunOutput: ...
    @overload
    def run(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> WorkflowRunOutput | SyncReader[Any]: ...

    def run(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[WorkflowOptions],
    ) -> Any:
        """Run the workflow from any thread.

        Parameters:
            input: a text, a dict, a list, a pydantic object, or None.
            stream: return an iterator over events instead of the output. Everything is checked and registered now.
            stream_events: show steps, tool calls and the like too, not only text and the end.
            background: refused here; see `arun`.
            options: see `desist.run.component.options.WorkflowOptions`.

        Returns:
            WorkflowRunOutput, or an iterator over events whose last one is terminal.

        Raises:
            ConfigurationError: something is missing or wrong; nothing has run.
            UnsupportedError: an option that desist doesn't have.
            RunIdInUseError: a live run has this id.
        """
        return self._start(input, options, stream, stream_events, background)

    @overload
    def arun(
        self,
        input: Any = None,
        *,
        stream: Literal[True],
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[WorkflowOptions],
    ) -> AsyncReader[Any]: ...
    @overload
    def arun(
        self,
        input: Any = None,
        *,
        stream: Literal[False] | None = None,
        background: bool = False,
        **options: Unpack[WorkflowOptions],
    ) -> Coroutine[Any, Any, WorkflowRunOutput]: ...
    @overload
    def arun(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[WorkflowOptions],
    ) -> Coroutine[Any, Any, WorkflowRunOutput] | AsyncReader[Any]: ...

    def arun(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Unpack[WorkflowOptions],
    ) -> Any:
        """Run the workflow on the caller's event loop. Parameters and errors as for `run`.

        Parameters:
            background: don't wait for the end. `get_run` returns the output so far, `afollow` the events, and `cancel`
                takes the id of the run. With `stream=True`, closing the iterator does not cancel the run. The end of
                the loop cancels the run, with source `shutdown`.

        Returns:
            With `stream=True` an async iterator over events, called without await; else a coroutine. In the
            background that gives the output as it is before the run begins, `PENDING`.
        """
        return self._astart(input, options, stream, stream_events, background)

    # -- queueing and resuming

    def submit(self, input: Any = None, **options: Unpack[SubmitOptions]) -> SubmittedRun:
        """Queue a run for the workers that have this workflow; return at once.

        The run is durable when this method returns. It stays `PENDING` until a worker takes it, however long that
        takes. Workers are started with `desist worker`, or as a `desist.engine.Worker` in a process.

        Parameters:
            input: as for `run`; a pydantic object is stored as its fields.
            options: as for `run`, if JSON can hold them. `timeout` counts from the start of the run, `deadline` from
                now. The `cost` of a `budget` can't be stored, because it needs a function. `priority`, `delay`, `at`,
                `concurrency_key` and `dedup_key` say when, and beside which other runs, a worker may claim it.

        Returns:
            SubmittedRun: with `run_id`, `status`, `wait`, `result`, `cancel`; `await` it for the output.

        Raises:
            ConfigurationError: the workflow has no database that processes share, or a value can't be stored.
            UnsupportedError: an option that desist doesn't have, or that can't be stored.
            RunIdInUseError: there is a run with this id, live or ended.
            StoreError: the run is not confirmed as stored.
        """
        handle = Submission(self).submit(input, options)
        self._last_session = handle.session_id
        return handle

    def submit_many(self, inputs: Iterable[Any], **options: Unpack[SubmitOptions]) -> SubmittedRuns:
        """Queue a run for each input, all in one transaction; return one handle of them.

        Parameters:
            inputs: as for `submit`.
            options: as for `submit`, but for `run_id` and `dedup_key`; the same for all.

        Raises:
            ConfigurationError, UnsupportedError, StoreError: as for `submit`; no run is queued.
        """
        return Submission(self).submit_many(inputs, options)

    map = submit_many

    def schedule(
        self, /, cron: str, input: Any = None, *, name: str | None = None, timezone: str = "UTC", **options: Any
    ) -> str:
        """Submit a run periodically; return the name of the schedule. Needs the extra `scale`.

        The schedule is stored in the database, and replaces one of its name. A worker that has this workflow submits
        each run once, with the id `NAME@TIME`. Times that pass without such a worker are made up for by one run.
        `db.schedules()` lists schedules, `db.delete_schedule(name)` deletes one.

        Parameters:
            cron: minute, hour, day, month, weekday: `"0 8 * * *"` is each day at 8.
            input, options: as for `submit`, if JSON can hold them.
            name: None: the id of the workflow.
            timezone: in which `cron` is read: `"Europe/Berlin"`.

        Raises:
            ConfigurationError: a value is invalid.
            MissingExtraError: the extra `scale` is not installed.
            StoreError: the schedule is not confirmed as stored.
        """
        return Submission(self).schedule(cron, input, name or self.id, timezone, options)

    def submitted(self, run_id: str) -> SubmittedRun:
        """Return the handle of a run of this workflow that was submitted before, by any process.

        Raises:
            ConfigurationError: there is no such run, or no database that processes share.
        """
        return Submission(self).find(run_id)

    def open_from_queue(self, claimed: ClaimedRun) -> Run:
        """Register a run that this process has claimed, to be started here. For workers.

        Raises:
            DesistError: the run can't be resumed: the steps have changed, or the input is not valid any more.
        """
        return Submission(self).open(claimed)

    def resume_lost_runs(self, *, price: Callable[[str, Usage], float] | None = None) -> list[str]:
        """Resume this workflow's runs whose processes have died, in the background; return their ids.

        For a workflow with `on_crash="resume"`; call it when a worker starts, and now and then. Finished steps are
        reused, the first unfinished one runs again. A run that was cancelled is ended instead. Each run is resumed by
        one process only. After its fifth crash it is not resumed again, and ends as an error.

        A run keeps the limits that it was started with: its deadline and timeouts, counted from its start; its budget,
        less what is known to be spent.

        Parameters:
            price: the price of a model call, as for `Budget`. For runs whose budget limits the cost: without `price`
                they are not resumed, and end as an error.

        Raises:
            ConfigurationError: runs of this workflow can't be resumed.
            StoreError: the database can't be used.
        """
        return Recovery(self).resume(price)

    asubmit = awaitable(submit)
    asubmit_many = awaitable(submit_many)
    aschedule = awaitable(schedule)
    aresume_lost_runs = awaitable(resume_lost_runs)

    # -- reading runs

    def get_run(self, run_id: str, session_id: str | None = None) -> WorkflowRunOutput | None:
        """Return the output of a run, live or ended, or None."""
        found: WorkflowRunOutput | None = self.get_run_output(run_id, session_id)
        return found

    def get_chat_history(
        self, session_id: str | None = None, last_n_runs: int | None = None
    ) -> list[WorkflowRunOutput]:
        """Return the outputs of a session's last ended runs, the oldest first; None for all."""
        session = self.get_session(session_id)
        return session.get_chat_history(last_n_runs) if session is not None else []

    aget_run = awaitable(get_run)
    aget_chat_history = awaitable(get_chat_history)

    # -- printing

    def print_response(self, input: Any = None, *, stream: bool = True, markdown: bool = True, **options: Any) -> None:
        """Run and show it in the terminal, live. Takes the options of `run`, and `console=` (rich)."""
        from desist.agent.print_response import print_response

        print_response(self, input, stream=stream, markdown=markdown, **options)

    async def aprint_response(
        self, input: Any = None, *, stream: bool = True, markdown: bool = True, **options: Any
    ) -> None:
        """Do the same on the caller's event loop."""
        from desist.agent.print_response import aprint_response

        await aprint_response(self, input, stream=stream, markdown=markdown, **options)
