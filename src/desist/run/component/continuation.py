"""Continuing a run that was cancelled or has failed, and following a run. `Component` has the public methods.

Continuing opens a new run with an id of its own; a cancelled run never runs again. Finished steps are reused, and an
interrupted tool call is not made again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError, RunStateError
from desist.run.component.options import validate_options
from desist.run.component.pause_continuation import Answerable, PauseContinuation, TakenRun
from desist.run.component.stored_pause import adopt_stored
from desist.run.execution.follow import follow_ended, follow_in_process, follow_shared
from desist.run.execution.launch import open_and_wait, start_run
from desist.run.execution.run import Run
from desist.run.records.ids import id_text, require_id
from desist.run.records.requirement import Answer
from desist.run.storage.live_run import live_run
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunStore, read
from desist.runtime.daemon_thread import start_daemon_thread
from desist.streams.follower import Follower

__all__ = ["Continuable", "Continuation", "ContinuationOpener"]

#: The arguments of `continue_run` with answers.
_ANSWERS = ("requirements", "updated_tools", "step_requirements")


def _take_answers(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the arguments with answers from the options, and return those that were given."""
    return {name: value for name in _ANSWERS if (value := options.pop(name, None)) is not None}


class ContinuationOpener(Protocol):
    """An agent or workflow, as the services see it that continue or resume runs."""

    @property
    def store(self) -> RunStore:
        """Where runs are stored."""

    def open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        """Register a run that continues an earlier one."""


class Continuable(ContinuationOpener, Answerable, Protocol):
    """What `Continuation` needs of an agent or workflow."""

    stream: bool

    def answers_in(self, output: Any, given: Mapping[str, Any]) -> dict[str, Answer]:
        """Return the answers that a call of `continue_run` carries, by the ids of the requirements.

        Parameters:
            output: the output of the paused run, or None.
            given: the arguments `requirements` and the like, those that are not None.
        """

    @property
    def options_type(self) -> type:
        """The options of one run, a TypedDict."""

    def get_run_output(self, run_id: str, session_id: str | None = None) -> Any:
        """Return the stored output of a run, or None."""

    def terminal_event(self, output: Any) -> Any:
        """Return the terminal event of a run that has ended, made from its output."""


class Continuation:
    """Continues and follows the runs of one agent or workflow."""

    def __init__(self, component: Continuable) -> None:
        self._component = component

    # -- continuing

    def run(
        self,
        earlier: Any,
        run_id: str | None,
        session_id: str | None,
        stream: bool | None,
        stream_events: bool | None,
        options: dict[str, Any],
    ) -> Any:
        """Continue a run from a thread; return the output or, if streamed, a reader."""
        component = self._component
        given = _take_answers(options)
        checked = validate_options(f"{type(component).__name__}.continue_run()", options, component.options_type)
        open_run = self._opener(self._load(earlier, run_id, session_id, given), checked)
        streamed = component.stream if stream is None else stream
        return open_and_wait(partial(open_run, stream=streamed, stream_events=stream_events), streamed=streamed)

    def arun(
        self,
        earlier: Any,
        run_id: str | None,
        session_id: str | None,
        stream: bool | None,
        options: dict[str, Any],
        **how: Any,
    ) -> Any:
        """Continue a run on this event loop; return a coroutine or, if streamed, a reader.

        Parameters:
            how: `stream_events` and `background` of `start_run`.
        """
        component = self._component
        given = _take_answers(options)
        checked = validate_options(f"{type(component).__name__}.acontinue_run()", options, component.options_type)
        if component.stream if stream is None else stream:
            return start_run(self._opener(self._load(earlier, run_id, session_id, given), checked), stream=True, **how)

        async def load_and_run() -> Any:
            loading = _Loading(self)
            try:
                found = await read(component.store, lambda: loading.load(earlier, run_id, session_id, given))
            except BaseException:
                loading.leave()
                raise
            started: Any = start_run(self._opener(found, checked), stream=False, **how)
            return await started

        return load_and_run()

    def _opener(self, earlier: Any, options: dict[str, Any]) -> Callable[..., Run]:
        if isinstance(earlier, TakenRun):
            return lambda **how: self._paused.open(earlier, options, **how)
        return lambda **how: self._component.open_continuation(earlier, options, **how)

    @property
    def _paused(self) -> PauseContinuation:
        return PauseContinuation(self._component)

    def _load(self, earlier: Any, run_id: str | None, session_id: str | None, given: Mapping[str, Any]) -> Any:
        """Return the paused run, taken with its answers, or the output of an ended run to continue.

        Raises:
            ConfigurationError: there is no such run, or an answer can't be used.
            RunStateError: the run can't be continued. An `AnswerRefusedError` if another continuation was first.
        """
        known = id_text(run_id, "run_id") or getattr(earlier, "run_id", None)
        if (earlier is None) != (run_id is None) and isinstance(known, str):
            status = getattr(earlier, "status", None)
            adopt_stored(self._component.store, known)
            if status is RunStatus.paused or (status is None and self._goes_on(known, given)):
                output = self._component.get_run_output(known) if earlier is None and given else earlier
                return self._paused.take(known, self._component.answers_in(output, given))
        if given:
            raise ConfigurationError(f"continue_run({', '.join(f'{name}=' for name in given)}) needs a paused run")
        return self.load_earlier(earlier, run_id, session_id)

    def _goes_on(self, run_id: str, given: Mapping[str, Any]) -> bool:
        """Return whether a call is about the pause of a run, and not about a new run that continues an ended one."""
        if not self._paused.is_paused(run_id):
            return False
        output = None if given else self._component.get_run_output(run_id)
        return output is None or output.status not in (RunStatus.cancelled, RunStatus.error)

    def load_earlier(self, earlier: Any, run_id: str | None, session_id: str | None) -> Any:
        """Return the output of the run to continue.

        Raises:
            ConfigurationError: there is no such run.
            RunStateError: the run can't be continued.
        """
        if (earlier is None) == (run_id is None):
            raise ConfigurationError("continue_run() needs either run_id= or the output of a run")
        known = id_text(run_id, "run_id") or getattr(earlier, "run_id", None)
        if not isinstance(known, str):
            raise ConfigurationError(f"continue_run() needs the output of a run, not {earlier!r:.80}")
        live = live_run(known)
        if live is not None:
            raise RunStateError(f"run {known} is {live.scope.status.value}: wait for its end, or cancel it first")
        output = earlier if earlier is not None else self._component.get_run_output(known, session_id)
        if output is None:
            raise ConfigurationError(
                f"there is no run {known!r} of {self._component!r} in its store: give run_response= instead"
            )
        if output.status not in (RunStatus.cancelled, RunStatus.error):
            raise RunStateError(
                f"run {known} is {output.status.value}: only a run that was cancelled or has failed can be continued"
            )
        if output.cancel is not None and any(hook.kind == "compensate" for hook in output.cancel.cleanup):
            raise RunStateError(
                f"run {known} can't be continued, because its cancel undid the finished steps: start a new run"
            )
        return output

    # -- following

    def follower(self, run_id: str, last_event_index: int | None) -> Follower[Any]:
        """Return the events of a run: from the shared store, this process, or the stored output.

        Raises:
            ConfigurationError: there is no such run, or it can't be followed.
        """
        run_id = require_id(run_id, "run_id")
        shared = shared_store(self._component.store)
        if shared is not None:
            return follow_shared(shared, run_id, last_event_index)
        known = follow_in_process(run_id, last_event_index)
        if known is not None:
            return known
        output = self._component.get_run_output(run_id)
        if output is None:
            raise ConfigurationError(f"there is no run {run_id!r} of {self._component!r} in this process or its store")
        if not output.status.is_final:
            raise ConfigurationError(f"run {run_id!r} belongs to another process: following it needs a SqliteDb")
        return self.ended(output, last_event_index)

    def ended(self, output: Any, last_event_index: int | None) -> Follower[Any]:
        """Return the events of a run that has ended and of which only the output is stored."""
        events = output.events or [self._component.terminal_event(output)]
        return follow_ended(output.run_id, events, last_event_index)


class _Loading:
    """Loads a run in a thread for a task that may be cancelled meanwhile: then a run that was taken is put back."""

    def __init__(self, continuation: Continuation) -> None:
        self._continuation = continuation
        self._lock = threading.Lock()
        self._left = False
        self._found: Any = None

    def load(self, *which: Any) -> Any:
        """Load, in the thread."""
        found = self._continuation._load(*which)
        with self._lock:
            self._found, left = found, self._left
        if left:
            self._put_back()
        return found

    def leave(self) -> None:
        """The task does not wait any more. On the loop: a database is asked in another thread."""
        with self._lock:
            self._left, found = True, self._found
        if isinstance(found, TakenRun):
            start_daemon_thread(self._put_back, "desist-db-call")

    def _put_back(self) -> None:
        if isinstance(self._found, TakenRun):
            self._continuation._paused.put_back(self._found.stored.run_id)
