"""`Component`: what `Agent` and `Workflow` share. Their public methods; the code is in the services next door."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, overload

from desist.exceptions import ConfigurationError, UnsupportedError
from desist.run.answer import aanswer, answer
from desist.run.cancellation_management.cancel import acancel, acancel_run, cancel, cancel_run
from desist.run.component.awaitable import awaitable
from desist.run.component.bound_cancel import BoundCancel
from desist.run.component.continuation import Continuation
from desist.run.component.copies import CopiedSettings
from desist.run.component.options import validate_options
from desist.run.component.sessions import SessionService
from desist.run.execution.cleanup import check_hook
from desist.run.execution.launch import open_and_wait, refuse_background, start_run
from desist.run.execution.run import ExecutableBody, Run, current_run, new_id
from desist.run.observability.logging import enable_debug_log
from desist.run.options.numbers import check_number
from desist.run.options.parent_context import ParentContext
from desist.run.options.strict import reject_unknown_options
from desist.run.outputs.session import Session
from desist.run.records.ids import id_text
from desist.run.records.metrics import RunMetrics
from desist.run.records.requirement import Answer, Requirement
from desist.run.storage.store import Database, MemoryStore, RunStore, store_of
from desist.runtime.background_loop import background_loop
from desist.streams.follower import Follower
from desist.streams.reader import AsyncReader, SyncReader

__all__ = ["Component"]

Output = TypeVar("Output")  #: `RunOutput` or `WorkflowRunOutput`
Event = TypeVar("Event")  #: of its streams

#: Settings that are numbers, or None.
_NOT_NEGATIVE = (
    "timeout",
    "stall_timeout",
    "grace",
    "retries",
    "num_history_runs",
    "delay_between_retries",
    "tool_call_limit",
)


class ComponentBody(ExecutableBody, Protocol):
    """The body of a run of an agent or a workflow."""

    def bind_run_id(self, run_id: str, parent_run_id: str | None) -> None:
        """Set the ids that the output and all events of the run carry."""


@reject_unknown_options
class Component(CopiedSettings, Generic[Output, Event]):
    """The base of `Agent` and `Workflow`: sessions, continuing, following and cancelling.

    Services are made for each call, from the attributes as they are: a server serves a copy with another `db`.
    Where a method's `session_id` is None, the session is the one of the constructor, else that of the last run.
    """

    _kind: ClassVar[str]  #: "agent" or "workflow"
    _described: ClassVar[str]  #: "an Agent" or "a Workflow", for errors
    _kept_options: ClassVar[tuple[str, ...]] = ("session_id", "user_id", "metadata")  #: when a run is continued
    options_type: ClassVar[type]  #: the options of one run, a TypedDict
    name: str | None
    id: str
    db: Database | RunStore | None
    grace: float | None
    dependencies: dict[str, Any] | None
    metadata: dict[str, Any] | None
    on_cancel: Callable[..., Any] | None
    stream: bool
    user_id: str | None
    session_id: str | None
    debug_mode: bool
    _memory: MemoryStore
    _own_session: str | None = None  #: of an object without a `session_id` whose runs share one session
    _last_session: str | None = None

    def _set_up(self) -> None:
        """Check the settings that agents and workflows share. Called by `__init__` when all are set."""
        where = self._described
        for name in _NOT_NEGATIVE:
            check_number(getattr(self, name, None), name, f"of {where}")
        check_hook(self.on_cancel, f"on_cancel= of {where}")
        for name in ("session_id", "user_id"):
            setattr(self, name, id_text(getattr(self, name), name))
        self._memory = MemoryStore()
        _ = self.store  # raises now if `db` is not a database
        if self.debug_mode:
            enable_debug_log()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.id}>"

    @property
    def store(self) -> RunStore:
        """Where runs and sessions are stored. An agent or workflow in a step stores in its own `db`, if it has one."""
        return store_of(self.db, self._described) if self.db is not None else self._memory

    @property
    def _sessions(self) -> SessionService:
        return SessionService(self.store, self._kind, self.id)

    @property
    def _continuation(self) -> Continuation:
        return Continuation(self)

    # -- opening runs

    def _open(
        self,
        input: Any,
        options: dict[str, Any],
        *,
        stream: bool,
        stream_events: bool | None,
        replay: bool = False,
        earlier: Any = None,
    ) -> Run:
        """Register a run; with `earlier`, the output of an earlier run, as its continuation."""
        raise NotImplementedError

    def open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        """Register a run that continues an earlier one. For services; programs call `continue_run`."""
        for name in self._kept_options:
            options[name] = getattr(earlier, name) if options[name] is None else options[name]
        given = self._input_of(earlier)
        return self._open(given, options, stream=stream, stream_events=stream_events, replay=replay, earlier=earlier)

    def _input_of(self, output: Any) -> Any:
        """Return the input of an earlier run."""
        return output.input

    def _register(
        self, body: ComponentBody, run_id: str, *, bound: bool = False, skip: bool = False, replay: bool = False
    ) -> Run:
        """Register a run of `body`, in the own store or, inside another run without a `db`, in that of the parent."""
        parent = current_run()
        body.bind_run_id(run_id, parent.run_id if parent else None)
        store = self.store if self.db is not None or parent is None else parent.store
        return Run.open(body, run_id=run_id, store=store, grace=self.grace, bound=bound, skip=skip, replay=replay)

    def terminal_event(self, output: Any) -> Any:
        """Return the terminal event of a run that has ended, made from its output."""
        raise NotImplementedError

    def _start(
        self, input: Any, options: Mapping[str, Any], stream: bool | None, stream_events: bool | None, background: bool
    ) -> Any:
        """Do what `run` does."""
        where = f"{type(self).__name__}.run"
        refuse_background(where, background)
        background_loop.ensure_not_on_loop()
        checked = validate_options(f"{where}()", options, self.options_type)
        streamed = self.stream if stream is None else stream
        open_run = functools.partial(self._open, input, checked, stream=streamed, stream_events=stream_events)
        return open_and_wait(open_run, streamed=streamed)

    def _astart(
        self, input: Any, options: Mapping[str, Any], stream: bool | None, stream_events: bool | None, background: bool
    ) -> Any:
        """Do what `arun` does."""
        checked = validate_options(f"{type(self).__name__}.arun()", options, self.options_type)
        streamed = self.stream if stream is None else stream
        open_run = functools.partial(self._open, input, checked)
        return start_run(open_run, stream=streamed, stream_events=stream_events, background=background)

    def _parent_context(self, options: Mapping[str, Any], *, lasting: bool, **more: Any) -> ParentContext:
        """Return the context of a new run. For `lasting`, see `_session_for`."""
        state = options["session_state"]
        session_id, new = self._session_for(options["session_id"], lasting=lasting)
        return ParentContext(
            user_id=options["user_id"] or self.user_id,
            session_id=session_id,
            new_session=new,
            session_state=state if state is not None else {},
            dependencies=options["dependencies"] or self.dependencies,
            metadata=options["metadata"] or self.metadata,
            **more,
        )

    def _session_for(self, session_id: str | None, *, lasting: bool) -> tuple[str, bool]:
        """Return the id of the session of a new run, and whether the session begins with this run.

        Parameters:
            session_id: the id that the program gave, or None.
            lasting: whether runs without an id share one session. Else each run has a session of its own.
        """
        new, known = False, session_id or self.session_id
        if known is None:
            made = new_id()
            # One `setdefault`: of two threads that start the first runs, both get the same session.
            known = self.__dict__.setdefault("_own_session", made) if lasting else made
            new = known == made
        return known, new

    def _resolve_session_id(self, session_id: str | None) -> str | None:
        return id_text(session_id, "session_id") or self.session_id or self._own_session or self._last_session

    def _require_session_id(self, session_id: str | None) -> str:
        known = self._resolve_session_id(session_id)
        if known is None:
            raise ConfigurationError(f"{self!r} has no session yet: give session_id=, or run it first")
        return known

    # -- cancelling

    #: Cancel a run by any id of its tree, with reason, grace, scope; see `desist.run.cancel.cancel`.
    cancel = BoundCancel(cancel)
    #: The same for async code; a database is asked in another thread.
    acancel = BoundCancel(acancel)
    #: Cancel a run by any id of its tree; return whether it ends, or has ended, `CANCELLED`.
    cancel_run = BoundCancel(cancel_run)
    #: The same for async code.
    acancel_run = BoundCancel(acancel_run)

    # -- answering

    #: Answer what a paused run waits for; see `desist.run.answer.answer`.
    answer = BoundCancel(answer)
    #: The same for async code.
    aanswer = BoundCancel(aanswer)

    def check_answer(self, requirement: Requirement, answer: Answer) -> None:
        """Raise `ConfigurationError` if an answer can't be used. For services."""

    def answers_in(self, output: Any, given: Mapping[str, Any]) -> dict[str, Answer]:
        """Return the answers that a call of `continue_run` carries. For services."""
        if given:
            raise UnsupportedError(f"continue_run() of {self._described} takes no {', '.join(given)}")
        return {}

    # -- continuing and following

    @overload
    def continue_run(self, run_response: Any = None, *, stream: Literal[True], **options: Any) -> SyncReader[Event]: ...
    @overload
    def continue_run(
        self, run_response: Any = None, *, stream: Literal[False] | None = None, **options: Any
    ) -> Output: ...
    @overload
    def continue_run(
        self, run_response: Any = None, *, stream: bool | None = None, **options: Any
    ) -> Output | SyncReader[Event]: ...

    def continue_run(
        self,
        run_response: Any = None,
        *,
        run_id: str | None = None,
        session_id: str | None = None,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Any,
    ) -> Any:
        """Continue a paused run, under its id; or a run that was cancelled or has failed, as a new run.

        A paused run goes on when all that it waits for is answered: by `requirements`, or before by `answer`. Of
        several calls, in any thread or process, one continues it.

        A run that has ended is continued as a new run that reuses the finished work.

        A workflow reuses its finished steps and runs the first unfinished step again, with the finished work inside
        that step. An agent continues after its last tool result. The model gets interrupted tool calls with a result
        that says so, and they are not made again.

        Parameters:
            run_response: the output of the earlier run. If it is paused, its requirements carry the answers; or:
            run_id: the id of a run in the store.
            session_id: only if the run is of this session.
            stream, stream_events, options: as for `run`. Options that are left out are those of the earlier run;
                `dependencies` and limits of a paused run must be given again. `requirements`: the answered
                requirements of a paused run, instead of those in `run_response`.
            background: as for `arun`; refused here.

        Returns:
            As `run`. `output.continued_from` is the id of the earlier run.

        Raises:
            ConfigurationError: there is no such run, the workflow has other steps now, or a paused run waits for more
                answers.
            AnswerRefusedError: another answer or continuation, a deadline or a cancel was first.
            RunStateError: the run is still live, or has completed.
        """
        refuse_background(f"{type(self).__name__}.continue_run", background)
        background_loop.ensure_not_on_loop()
        return self._continuation.run(run_response, run_id, session_id, stream, stream_events, options)

    @overload
    def acontinue_run(
        self, run_response: Any = None, *, stream: Literal[True], **options: Any
    ) -> AsyncReader[Event]: ...
    @overload
    def acontinue_run(
        self, run_response: Any = None, *, stream: Literal[False] | None = None, **options: Any
    ) -> Coroutine[Any, Any, Output]: ...
    @overload
    def acontinue_run(
        self, run_response: Any = None, *, stream: bool | None = None, **options: Any
    ) -> Coroutine[Any, Any, Output] | AsyncReader[Event]: ...

    def acontinue_run(
        self,
        run_response: Any = None,
        *,
        run_id: str | None = None,
        session_id: str | None = None,
        stream: bool | None = None,
        stream_events: bool | None = None,
        background: bool = False,
        **options: Any,
    ) -> Any:
        """Do the same on the caller's event loop. Returns as `arun`.

        With `stream=True` the earlier run is read from the store at once, which may block on a disk; with a
        `run_response` nothing is read.
        """
        how = {"stream_events": stream_events, "background": background}
        return self._continuation.arun(run_response, run_id, session_id, stream, options, **how)

    def follow(self, run_id: str, *, last_event_index: int | None = None) -> SyncReader[Any]:
        """Return an iterator over the events of a run. Closing the iterator does not cancel the run.

        Parameters:
            run_id: with a database that processes share, such as `SqliteDb`, any run stored there, of any process. Else
                a run that was started with `arun(background=True)`, in any thread of this process, also if the run has
                ended; of a run that ended long ago only the terminal event is left.
            last_event_index: `event_index` of the last event that was seen; the events after it follow, each once. Text
                between that event and a cancel is left out; the terminal event has it.

        Raises:
            ConfigurationError: there is no such run, or it can't be followed.
        """
        follower = self._continuation.follower(run_id, last_event_index)
        follower.begin()
        return SyncReader(follower)

    def afollow(self, run_id: str, *, last_event_index: int | None = None) -> AsyncReader[Any]:
        """Do the same for async code: an async iterator, called without await.

        For a run of another process the iterator, not this call, raises the error that there is no such run.
        """
        return AsyncReader(self._continuation.follower(run_id, last_event_index))

    def follow_output(self, output: Any, last_event_index: int | None = None) -> Follower[Any]:
        """Return the events of a run that has ended and of which only the output is stored. For servers."""
        return self._continuation.ended(output, last_event_index)

    # -- reading sessions and runs

    def get_session(self, session_id: str | None = None, user_id: str | None = None) -> Any:
        """Return a session with the runs of this agent or workflow in it, or None.

        Parameters:
            user_id: only if the session is this user's, or nobody's.
        """
        return self._sessions.load(self._resolve_session_id(session_id), user_id)

    def get_session_state(self, session_id: str | None = None) -> dict[str, Any]:
        """Return the state that the last ended run, or `update_session_state`, left; {} if there is none.

        The dict is a copy: change the state with `update_session_state`.
        """
        return self._sessions.data(self._resolve_session_id(session_id), "session_state") or {}

    def get_session_name(self, session_id: str | None = None) -> str | None:
        """Return the name of a session, or None."""
        name: str | None = self._sessions.data(self._resolve_session_id(session_id), "session_name")
        return name

    def get_session_metrics(self, session_id: str | None = None) -> RunMetrics | None:
        """Return the sum of the metrics of all runs of a session, or None if there is no session."""
        session = self.get_session(session_id)
        return session.metrics() if session is not None else None

    def get_run_output(self, run_id: str, session_id: str | None = None, user_id: str | None = None) -> Output | None:
        """Return the output of a run, live or ended, or None.

        Parameters:
            session_id, user_id: only if the run is of this session, of this user.
        """
        found: Output | None = self._sessions.run_output(run_id, session_id, user_id)
        return found

    def get_last_run_output(self, session_id: str | None = None) -> Output | None:
        """Return the output of the ended run of a session that began last, or None."""
        found: Output | None = self._sessions.last_run_output(self._resolve_session_id(session_id))
        return found

    # -- changing sessions

    def update_session_state(self, updates: Mapping[str, Any], session_id: str | None = None) -> dict[str, Any]:
        """Set keys of a session's state, and return the state. A live run keeps its own copy of the state.

        Raises:
            StoreError: the change is not confirmed as stored.
        """
        known = self._require_session_id(session_id)
        self._sessions.update(known, self.user_id, state=updates)
        return self.get_session_state(known)

    def set_session_name(self, session_id: str | None = None, *, session_name: str) -> Any:
        """Give a session a name, and return the session.

        Raises:
            StoreError: the change is not confirmed as stored.
        """
        known = self._require_session_id(session_id)
        self._sessions.update(known, self.user_id, name=session_name)
        return self.get_session(known)

    def save_session(self, session: Session) -> None:
        """Store a session without its runs, which are stored by themselves.

        Raises:
            StoreError: the session is not confirmed as stored.
        """
        self._sessions.save(session)

    def delete_session(self, session_id: str, user_id: str | None = None) -> bool:
        """Delete a session and its runs; return whether the session existed. A live run stores its own end later.

        Parameters:
            user_id: only if the session is this user's, or nobody's.
        """
        kind = "agent" if self._kind == "agent" else None  # a workflow's session has the runs of its agents too
        return self._sessions.delete(session_id, user_id, kind=kind)

    # -- the same for async code

    aget_session = awaitable(get_session)
    aget_session_state = awaitable(get_session_state)
    aget_session_name = awaitable(get_session_name)
    aget_session_metrics = awaitable(get_session_metrics)
    aget_run_output = awaitable(get_run_output)
    aget_last_run_output = awaitable(get_last_run_output)
    aupdate_session_state = awaitable(update_session_state)
    aset_session_name = awaitable(set_session_name)
    asave_session = awaitable(save_session)
    adelete_session = awaitable(delete_session)
