"""Going on with a run that was stopped or has failed, and following one that goes on in the background.

`ContinuationMethods` is a base of agents and workflows. Going on makes a new run, with an id of its own: a cancelled
run never comes back to life. What had finished is taken as it was; a tool call that was stopped isn't made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from desist.cancel.registry import registry
from desist.cancel.status import RunStatus
from desist.exceptions import ConfigurationError, RunStateError
from desist.run.component.options import validate_options
from desist.run.execution.follow import follow_ended, follow_in_process, follow_shared
from desist.run.execution.launch import refuse_background, start_run
from desist.run.execution.run import Run
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import RunStore, read
from desist.runtime.background_loop import background_loop
from desist.streams.follower import Follower
from desist.streams.reader import AsyncReader, SyncReader

__all__ = ["ContinuationMethods"]


class ContinuationMethods:
    """What agents and workflows can do with a run of theirs that was started before."""

    _options: ClassVar[type]  #: what may be said of one run
    stream: bool

    @property
    def store(self) -> RunStore:
        """Where runs are recorded."""
        raise NotImplementedError

    def get_run_output(self, run_id: str, session_id: str | None = None, user_id: str | None = None) -> Any:
        """Return what is recorded of a run, or None."""
        raise NotImplementedError

    def _open_continuation(
        self, earlier: Any, options: dict[str, Any], *, stream: bool, stream_events: bool | None, replay: bool = False
    ) -> Run:
        """Register a run that goes on from what an earlier one left."""
        raise NotImplementedError

    def _terminal_events(self, output: Any) -> list[Any]:
        """Return the closing event of a run that has ended, made from its record."""
        raise NotImplementedError

    # -- going on

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
        """Go on with a run that was cancelled or has failed: a new run, which takes over what had finished.

        A workflow takes its finished steps as they are and runs the first unfinished one again, with what had finished
        inside it. An agent goes on after its last tool result, the results of stopped calls included: they are told
        to the model as stopped, and not made again.

        Parameters:
            run_response: the output of the earlier run; or:
            run_id: its id, of a run in the store.
            session_id: only if the run is of this session.
            stream, stream_events, options: as for `run`. What isn't given is as it was for the earlier run.
            background: as for `arun`; refused here.

        Returns:
            As `run`. `output.continued_from` is the id of the earlier run.

        Raises:
            ConfigurationError: there is no such run, or the workflow's steps are others now.
            RunStateError: the run is still live, or has completed.
        """
        refuse_background(f"{type(self).__name__}.continue_run", background)
        background_loop.ensure_not_on_loop()
        checked = validate_options(f"{type(self).__name__}.continue_run()", options, self._options)
        earlier = self._load_earlier(run_response, run_id, session_id)
        wanted = self.stream if stream is None else stream
        return self._open_continuation(earlier, checked, stream=wanted, stream_events=stream_events).start_and_wait(
            streamed=wanted
        )

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

        With `stream=True` the earlier run is read from the store at once, which may wait for a disk; a
        `run_response` saves that.
        """
        checked = validate_options(f"{type(self).__name__}.acontinue_run()", options, self._options)
        if self.stream if stream is None else stream:
            open_run = self._opener(self._load_earlier(run_response, run_id, session_id), checked)
            return start_run(open_run, stream=True, stream_events=stream_events, background=background)
        return self._acontinue(run_response, run_id, session_id, checked, stream_events, background)

    async def _acontinue(
        self,
        run_response: Any,
        run_id: str | None,
        session_id: str | None,
        options: dict[str, Any],
        stream_events: bool | None,
        background: bool,
    ) -> Any:
        earlier = await read(self.store, lambda: self._load_earlier(run_response, run_id, session_id))
        open_run = self._opener(earlier, options)
        started: Any = start_run(open_run, stream=False, stream_events=stream_events, background=background)
        return await started

    def _opener(self, earlier: Any, options: dict[str, Any]) -> Callable[..., Run]:
        return lambda **how: self._open_continuation(earlier, options, **how)

    def _load_earlier(self, earlier: Any, run_id: str | None, session_id: str | None) -> Any:
        """Return the output of the run to go on with."""
        if (earlier is None) == (run_id is None):
            raise ConfigurationError("continue_run() needs either run_id= or the output of a run")
        known = run_id or getattr(earlier, "run_id", None)
        if not isinstance(known, str):
            raise ConfigurationError(f"continue_run() needs the output of a run, not {earlier!r:.80}")
        live: Any = registry.get(known)
        if live is not None:
            raise RunStateError(f"run {known} is {live.scope.status.value}: wait for its end, or cancel it first")
        output = earlier if earlier is not None else self.get_run_output(known, session_id)
        if output is None:
            raise ConfigurationError(f"there is no run {known!r} of {self!r} in its store: give run_response= instead")
        if output.status not in (RunStatus.cancelled, RunStatus.error):
            raise RunStateError(
                f"run {known} is {output.status.value}: only a run that was cancelled or has failed can be continued"
            )
        if output.cancel is not None and any(hook.kind == "compensate" for hook in output.cancel.cleanup):
            raise RunStateError(f"what run {known} had done was undone when it was cancelled: run it anew")
        return output

    # -- following

    def follow(self, run_id: str, *, last_event_index: int | None = None) -> SyncReader[Any]:
        """Return an iterator over the events of a run. Leaving it doesn't stop the run.

        Parameters:
            run_id: with a database that several processes use, such as `SqliteDb`, any run that is recorded there, of
                whichever process. Else a run that was started with `arun(background=True)`, here or in another thread.
                Also one that has ended; of one that ended long ago only the end is told.
            last_event_index: `event_index` of the last event that was seen: those after it follow, none twice. Text
                that came between it and a cancel is left out; the closing event has it.

        Raises:
            ConfigurationError: no such run is known, or it can't be followed.
        """
        follower = self._follower(run_id, last_event_index)
        follower.begin()
        return SyncReader(follower)

    def afollow(self, run_id: str, *, last_event_index: int | None = None) -> AsyncReader[Any]:
        """Do the same for async code: an async iterator, called without await.

        Where a run isn't known in this process, that there is none may be told by the iterator.
        """
        return AsyncReader(self._follower(run_id, last_event_index))

    def _follower(self, run_id: str, last_event_index: int | None) -> Follower[Any]:
        shared = shared_store(self.store)
        if shared is not None:
            return follow_shared(shared, run_id, last_event_index)
        known = follow_in_process(run_id, last_event_index)
        if known is not None:
            return known
        output = self.get_run_output(run_id)
        if output is None:
            raise ConfigurationError(f"there is no run {run_id!r} of {self!r} in this process or in its store")
        if not output.status.is_final:
            raise ConfigurationError(f"run {run_id!r} is of another process: only with a SqliteDb it can be followed")
        return self.follow_output(output, last_event_index)

    def follow_output(self, output: Any, last_event_index: int | None = None) -> Follower[Any]:
        """Return what is told of a run that has ended and of which only the record is left. For servers."""
        return follow_ended(output.run_id, output.events or self._terminal_events(output), last_event_index)
