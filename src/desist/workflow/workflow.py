"""`Workflow`: steps, run as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Unpack, overload

from desist.cancel.home import home
from desist.cancel.reader import AsyncReader, SyncReader
from desist.exceptions import ConfigurationError
from desist.run.cancel import acancel_run, cancel, cancel_run
from desist.run.cleanup import check_hook
from desist.run.debug import show_log
from desist.run.driver import Run, current_run, new_id
from desist.run.in_session import InSession
from desist.run.input import check_input
from desist.run.options import WorkflowOptions, apply_limits, checked_options
from desist.run.place import Place
from desist.run.store import Database, MemoryStore, RunStore, store_of
from desist.run.strict import Strict
from desist.run.workflow import WorkflowRunOutput
from desist.workflow.body import WorkflowBody
from desist.workflow.entries import as_steps
from desist.workflow.flow import Runnable
from desist.workflow.sessions import WorkflowSessions
from desist.workflow.steps import Steps
from desist.workflow.types import StepInput

__all__ = ["Workflow"]


class Workflow(WorkflowSessions, Strict):
    """Steps that are run as one, and stopped as one.

    Parameters:
        name: how it is called in events and logs.
        id: a stable id; made from the name if None.
        description: what it is for.
        steps: steps, containers, agents, functions of a `StepInput`; or one `Steps`.
        db: where runs and sessions are recorded, such as `SqliteDb(...)`; None keeps the last ones in memory.
        session_state: what functions and tools share as `session_state`, at the beginning of a session. Each run
            works on the dict that it is given, or a new one, and finds in it what the session's runs before it left.
        overwrite_db_session_state: a run doesn't take what is stored, and replaces it at its end.
        add_workflow_history_to_steps: tell agents what was asked and answered in the session's last runs.
        num_history_runs: in how many.
        dependencies: what they get as `dependencies`.
        metadata: kept with the run.
        timeout: seconds after which a run is cancelled, with source `deadline`.
        grace: seconds for cleanup after a cancel, before what is left is abandoned.
        on_cancel: a function that cleans up after a cancel; it is given the output.
        compensate: a cancel undoes finished steps, by their `compensate` functions.
        stream, stream_events: defaults of `run`.
        user_id, session_id: defaults of `run`. Without any session id, a workflow with a `db` keeps one session for
            all its runs; without one, each run has a session of its own.
        debug_mode: show the log of desist, from level DEBUG on, on standard error.
        telemetry: accepted for programs that set it; nothing ever leaves the process.

    Raises:
        ConfigurationError: a step or value can't be used; the message names it.
        UnsupportedError: a parameter that desist doesn't have.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        id: str | None = None,
        description: str | None = None,
        steps: Sequence[Any] | Steps | None = None,
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
        compensate: bool = False,
        stream: bool = False,
        stream_events: bool = False,
        user_id: str | None = None,
        session_id: str | None = None,
        debug_mode: bool = False,
        telemetry: bool = True,
    ) -> None:
        for label, seconds in (("timeout", timeout), ("grace", grace)):
            if seconds is not None and seconds < 0:
                raise ConfigurationError(f"{label}={seconds} of a Workflow must not be negative")
        if num_history_runs < 0:
            raise ConfigurationError(f"num_history_runs={num_history_runs} of a Workflow must not be negative")
        self.name = name
        self.id = id or (name or "workflow").lower().replace(" ", "-")
        self.description = description
        entries = [steps] if isinstance(steps, Steps) else steps or []
        self.steps: list[Runnable] = as_steps(entries, f"workflow {self.id!r}")
        self.db = db
        self._memory = MemoryStore()
        _ = self.store  # what is no database is an error now
        self.session_state = session_state
        self.overwrite_db_session_state = overwrite_db_session_state
        self.add_workflow_history_to_steps = add_workflow_history_to_steps
        self.num_history_runs = num_history_runs
        self.dependencies = dependencies
        self.metadata = metadata
        self.timeout = timeout
        self.grace = grace
        check_hook(on_cancel, "on_cancel= of a Workflow")
        self.on_cancel = on_cancel
        self.compensate = compensate
        self.stream = stream
        self.stream_events = stream_events
        self.user_id = user_id
        self.session_id = session_id
        self.debug_mode = debug_mode
        self.telemetry = telemetry
        if debug_mode:
            show_log()

    def __repr__(self) -> str:
        return f"<Workflow {self.name or self.id}>"

    @property
    def store(self) -> RunStore:
        """Where runs and sessions are recorded."""
        return store_of(self.db, "a Workflow") if self.db is not None else self._memory

    def _open(self, asked: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None) -> Run:
        what = f"workflow {self.id!r}"
        check_input(asked, what, required=False)
        if not self.steps:
            raise ConfigurationError(f"{what} has no steps: give it some, steps=[...]")
        for step in self.steps:
            for agent in step.agents():
                agent.needed_model()
        events = self.stream_events if stream_events is None else stream_events
        given = StepInput(input=asked, additional_data=options["additional_data"])
        place = self._place(options)
        body = WorkflowBody(self, given, place, listened=stream, stream_events=stream and events)
        body.on_cancel = options["on_cancel"]
        body.in_session = InSession(
            "workflow", self.id, place, defaults=self.session_state, overwrite=self.overwrite_db_session_state
        )
        run_id = options["run_id"] or new_id()
        parent = current_run()
        body.named(run_id, parent.run_id if parent else None)
        store = self.store if self.db is not None or parent is None else parent.store
        run = Run.open(body, run_id=run_id, store=store, grace=self.grace)
        run.limit(self.timeout, f"the timeout of {what}")
        apply_limits(run, options)
        return run

    def _place(self, options: dict[str, Any]) -> Place:
        state = options["session_state"]
        session_id, new = self._session_for(options["session_id"], lasting=self.db is not None)
        return Place(
            user_id=options["user_id"] or self.user_id,
            session_id=session_id,
            new_session=new,
            workflow_id=self.id,
            workflow_name=self.name,
            session_state=state if state is not None else {},
            dependencies=options["dependencies"] or self.dependencies,
            metadata=options["metadata"] or self.metadata,
        )

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

    def run(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> Any:
        """Run the workflow from any thread.

        Parameters:
            input: a text, a dict, a list, a pydantic object, or None.
            stream: return an iterator over events instead of the output. Everything is checked and registered now.
            stream_events: show steps, tool calls and the like too, not only text and the end.
            options: see `desist.run.options.WorkflowOptions`.

        Returns:
            WorkflowRunOutput, or an iterator over events whose last one is terminal.

        Raises:
            ConfigurationError: something is missing or wrong; nothing has run.
            UnsupportedError: an option that desist doesn't have.
            RunIdInUseError: a live run has this id.
        """
        home.refuse_blocking()
        checked = checked_options("Workflow.run()", options, WorkflowOptions)
        wanted = self.stream if stream is None else stream
        return self._open(input, checked, stream=wanted, stream_events=stream_events).begin(streamed=wanted)

    @overload
    def arun(
        self,
        input: Any = None,
        *,
        stream: Literal[True],
        stream_events: bool | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> AsyncReader[Any]: ...
    @overload
    def arun(
        self, input: Any = None, *, stream: Literal[False] | None = None, **options: Unpack[WorkflowOptions]
    ) -> Coroutine[Any, Any, WorkflowRunOutput]: ...

    def arun(
        self,
        input: Any = None,
        *,
        stream: bool | None = None,
        stream_events: bool | None = None,
        **options: Unpack[WorkflowOptions],
    ) -> Any:
        """Run the workflow on the caller's event loop. Parameters and errors as for `run`.

        Returns:
            With `stream=True` an async iterator over events, called without await; else a coroutine.
        """
        checked = checked_options("Workflow.arun()", options, WorkflowOptions)
        if self.stream if stream is None else stream:
            loop = asyncio.get_running_loop()
            return self._open(input, checked, stream=True, stream_events=stream_events).start(loop).async_reader()
        return self._arun(input, checked)

    async def _arun(self, input: Any, options: dict[str, Any]) -> WorkflowRunOutput:
        run = self._open(input, options, stream=False, stream_events=False)
        output: WorkflowRunOutput = await run.start(asyncio.get_running_loop()).wait_async()
        return output

    # -- stopping

    #: Cancel a run by any id of its tree, with reason, grace, scope; see `desist.run.cancel.cancel`.
    cancel = staticmethod(cancel)
    #: Cancel a run by any id of its tree; return whether it ends, or has ended, `CANCELLED`.
    cancel_run = staticmethod(cancel_run)
    #: The same for async code.
    acancel_run = staticmethod(acancel_run)

    # -- printing; looking back is in `desist.workflow.sessions`

    def print_response(self, input: Any = None, *, stream: bool = True, markdown: bool = True, **options: Any) -> None:
        """Run and show it in the terminal, live. Takes the options of `run`, and `console=` (rich)."""
        from desist.workflow.printing import print_response

        print_response(self, input, stream=stream, markdown=markdown, **options)

    async def aprint_response(
        self, input: Any = None, *, stream: bool = True, markdown: bool = True, **options: Any
    ) -> None:
        """Do the same on the caller's event loop."""
        from desist.workflow.printing import aprint_response

        await aprint_response(self, input, stream=stream, markdown=markdown, **options)
