"""What is known of a run, and what its reader is told. Its end is in `finalizer`, stopping it in `interruption`."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import CancelReason
from desist.cancel.receipt import CancelRecord
from desist.cancel.scope import Scope
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken
from desist.exceptions import RunCancelled
from desist.run.cancellation_management.ownership import managed_ownership
from desist.run.execution.body import RunBody
from desist.run.execution.branch import current_branch
from desist.run.options.budget import BudgetMeter
from desist.run.options.durable_limits import DurableLimits
from desist.run.options.idempotency import child_key
from desist.run.records.ids import new_id
from desist.run.storage.event_buffer import EventBuffer
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import PartKind, RunStore
from desist.run.telemetry.gate import trace_run
from desist.run.telemetry.span_info import SpanInfo
from desist.runtime.latch import Latch
from desist.runtime.loop_probe import LoopProbe
from desist.runtime.run_tasks import RunTasks
from desist.runtime.timer_thread import Timer
from desist.streams.channel import Backlog, DiscardingChannel, EventChannel
from desist.streams.replay_channel import ReplayChannel

if TYPE_CHECKING:
    from desist.run.telemetry.spans import Spans

__all__ = ["DEFAULT_GRACE", "Emitter"]

#: Seconds for cleanup after a cancel, before what is left is abandoned.
DEFAULT_GRACE = 0.05
log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running


def _number(event: Any, index: int) -> None:
    event.event_index = index


def _number_and_time(event: Any, index: int) -> None:
    """Number an event that is kept for followers, and say when it was told: they may come much later."""
    event.event_index, event.event_at = index, time.time()


def _is_content(event: Any) -> bool:
    return bool(event.is_content)


def _mark(event: Any, missed: int) -> None:
    event.missed_events = missed


def _read_on(shared: Any, run_id: str, after: int) -> Any:
    """Return what follows the rest of a stream in the store, for a reader that fell behind."""
    log.info("run %s is read slowly: its reader goes on in the store after event %d", run_id, after)
    return shared.follow_run(run_id, after)


class Emitter:
    """One run: where it stands in its tree, what it works with, and the gate through which it tells and records."""

    def __init__(
        self,
        body: RunBody,
        *,
        run_id: str | None,
        store: RunStore,
        grace: float | None,
        parent: Emitter | None,
        bound: bool,
        replay: bool = False,
    ) -> None:
        self.run_id = run_id or new_id()
        self.body = body
        self.store = store
        self.shared = shared_store(store) or managed_ownership(store)  #: the same, if other processes may use it, too
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()
        self.scope = Scope(self.run_id, bound=bound, owner=self, needs_confirmation=self.shared is not None)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.token.decided = self.scope
        self.settled = Latch()
        self.error: BaseException | None = None
        self.tasks = RunTasks()
        self.stream_owner: Emitter = (
            parent.stream_owner if parent and bound else self
        )  #: the run whose reader hears of this one
        self.recorder: EventBuffer | None = None  #: what it tells is stored, for followers in other processes
        self.bridge: EventChannel[Any] = self.stream_owner.bridge if bound and parent else self._new_channel(replay)
        self.branch = current_branch()  #: of the run that it was started in
        self.spending: tuple[BudgetMeter, ...] = parent.spending if parent else ()
        #: Takes every event of this run and of those bound to it, shown or not; None: nobody wants them.
        self.on_event: Callable[[Any], None] | None = getattr(body, "on_event", None)
        self._grace_deadline = 0.0
        self._given: float | None = None  #: seconds of grace, if it is this run's to keep
        self._pulses: dict[asyncio.AbstractEventLoop, LoopProbe] = {}
        self._forced = False
        self._interrupted = False  #: whether whoever cancelled it has told all its work
        self.limit_reason: CancelReason | None = None  #: with which whoever started it wanted to put an end to it
        self.compensate_requested = False  #: whether a cancel asked for compensations
        self._tidying = RunTasks()
        self._tidy_token = CancelToken()
        self.options = DurableLimits()  #: what holds for all of it, wherever it goes on
        self._limits: list[Timer] = []  #: taken back when the run ends
        self.opened_at = time.monotonic()
        self.created_at = time.time()  #: seconds since the epoch
        #: what the idempotency keys of its work begin with
        self.key: str = child_key(self.run_id, parent.key if parent else None, bound=bound)
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: what a log record about it carries
        self.token.ids = self._tidy_token.ids = self.ids
        self.spans: Spans | None = trace_run(SpanInfo(body.kind, body.output, self.scope))

    def _new_channel(self, replay: bool) -> EventChannel[Any]:
        shared = shared_store(self.store)
        if shared is None:
            return (
                ReplayChannel(self.lock, _number_and_time)
                if replay
                else EventChannel(self.lock, _number, Backlog(_is_content, _mark))
            )
        self.recorder = EventBuffer(self.run_id, shared.events_added)
        number = self.recorder.number
        if not self.body.has_reader:  # nobody reads along here, but others may
            self.body.enable_all_events()
            made: EventChannel[Any] = DiscardingChannel(self.lock, number)
        else:
            rest = Backlog(_is_content, _mark, functools.partial(_read_on, shared, self.run_id))
            made = ReplayChannel(self.lock, number) if replay else EventChannel(self.lock, number, rest)
        made.count = self.body.first_event_index
        return made

    @property
    def root(self) -> Any:
        """The run at the top of the tree."""
        return self.scope.root.owner

    @property
    def record(self) -> CancelRecord | None:
        """The cancel as it is recorded; None if it isn't cancelled. Made when it is first asked for, by any thread."""
        if self.scope.reason is None:
            return None
        made: CancelRecord | None = self.__dict__.get("_record")
        return made or self.__dict__.setdefault("_record", CancelRecord.of(self.scope.reason))

    @record.setter
    def record(self, record: CancelRecord | None) -> None:
        self.__dict__.pop("_record", None)
        if record is not None:
            self.__dict__["_record"] = record

    @property
    def status(self) -> RunStatus:
        """Where it stands now."""
        return self.scope.status

    def emit(self, event: Any, apply: Callable[[], object] | None = None) -> None:
        """Tell the reader, and do what belongs to it, unless the outcome is decided.

        Parameters:
            event: what to tell.
            apply: changes the output; happens exactly if the event counts.

        Raises:
            RunCancelled: the run takes nothing more.
        """
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            if apply is not None:
                apply()
            self._put(event)

    def commit(self, apply: Callable[[], object]) -> None:
        """Record a result, unless the outcome is decided.

        Raises:
            RunCancelled: the run takes nothing more.
        """
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            apply()

    def checkpoint(self, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Record what has finished, so that a crash doesn't lose it. After it was committed; never fails the run."""
        if self.stream_owner.recorder is not None:
            at = {
                **(at or {}),
                "events": self.stream_owner.bridge.count,
            }  # what was told since then belongs to what is open
        try:
            self.store.add_part(self.run_id, kind, value, at)
        except Exception:
            log.exception("run %s: a finished %s could not be stored", self.run_id, kind, extra=self.ids)

    def check(self) -> None:
        """Raise `RunCancelled` if nothing new may start."""
        if self.scope.status is not _RUNNING:
            raise RunCancelled(self.scope.reason)

    def _put(self, event: Any) -> None:
        """Put an event where it is heard. With the lock held."""
        teller = self.stream_owner
        if teller.on_event is not None:
            teller.on_event(event)
        if teller.bridge.closed or not teller.body.is_visible(event):
            return
        teller.bridge.put(event)

    def _advance(self) -> None:
        """Do what is due now. See `Stopping`."""
        raise NotImplementedError
