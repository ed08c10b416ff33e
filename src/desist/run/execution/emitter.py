"""What is known of a run, and what its reader is told. Its end is in `ending`, stopping it in `stopping`."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import CancelReason
from desist.cancel.receipt import CancelRecord, Latch
from desist.cancel.scope import Scope
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken
from desist.exceptions import RunCancelled
from desist.run.cancellation_management.ownership import managed
from desist.run.execution.body import Body
from desist.run.execution.branch import current_branch
from desist.run.options.budget import Spending
from desist.run.options.durable_limits import KeptOptions
from desist.run.options.idempotency import key_of_child
from desist.run.records.ids import new_id
from desist.run.storage.event_buffer import Recorder
from desist.run.storage.shared_store import shared_store
from desist.run.storage.store import PartKind, RunStore
from desist.run.telemetry.gate import trace_run
from desist.runtime.loop_probe import Pulse
from desist.runtime.run_tasks import Tasks
from desist.runtime.timer_thread import Timer
from desist.streams.channel import Backlog, Bridge, UnreadBridge
from desist.streams.replay_channel import KeptBridge

if TYPE_CHECKING:
    from desist.run.telemetry.spans import Spans

__all__ = ["DEFAULT_GRACE", "RunState"]

#: Seconds for cleanup after a cancel, before what is left is abandoned.
DEFAULT_GRACE = 0.05
log = logging.getLogger("desist.run")
_RUNNING = RunStatus.running


def _number(event: Any, index: int) -> None:
    event.event_index = index


def _stamp(event: Any, index: int) -> None:
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


class RunState:
    """One run: where it stands in its tree, what it works with, and the gate through which it tells and records."""

    def __init__(
        self,
        body: Body,
        *,
        run_id: str | None,
        store: RunStore,
        grace: float | None,
        parent: RunState | None,
        bound: bool,
        kept: bool = False,
    ) -> None:
        self.run_id = run_id or new_id()
        self.body = body
        self.store = store
        self.shared = shared_store(store) or managed(store)  #: the same, if other processes may use it, too
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()
        self.scope = Scope(self.run_id, bound=bound, owner=self, asks=self.shared is not None)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.token.decided = self.scope
        self.settled = Latch()
        self.error: BaseException | None = None
        self.tasks = Tasks()
        self.teller: RunState = parent.teller if parent and bound else self  #: the run whose reader hears of this one
        self.recorder: Recorder | None = None  #: what it tells is stored, for followers in other processes
        self.bridge: Bridge[Any] = self.teller.bridge if bound and parent else self._new_bridge(kept)
        self.branch = current_branch()  #: of the run that it was started in
        self.spending: tuple[Spending, ...] = parent.spending if parent else ()
        #: Takes every event of this run and of those bound to it, shown or not; None: nobody wants them.
        self.note_event: Callable[[Any], None] | None = getattr(body, "note_event", None)
        self._due = 0.0
        self._given: float | None = None  #: seconds of grace, if it is this run's to keep
        self._pulses: dict[asyncio.AbstractEventLoop, Pulse] = {}
        self._forced = False
        self._told_to_stop = False  #: whether whoever cancelled it has told all its work
        self.limit_reason: CancelReason | None = None  #: with which whoever started it wanted to put an end to it
        self.compensate = False  #: whether a cancel asked for compensations
        self._tidying = Tasks()
        self._tidy_token = CancelToken()
        self.options = KeptOptions()  #: what holds for all of it, wherever it goes on
        self._limits: list[Timer] = []  #: taken back when the run ends
        self.opened_at = time.monotonic()
        self.created_at = time.time()  #: seconds since the epoch
        #: what the idempotency keys of its work begin with
        self.key: str = key_of_child(self.run_id, parent.key if parent else None, bound=bound)
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: what a log record about it carries
        self.token.ids = self._tidy_token.ids = self.ids
        self.spans: Spans | None = trace_run(self)

    def _new_bridge(self, kept: bool) -> Bridge[Any]:
        shared = shared_store(self.store)
        if shared is None:
            return KeptBridge(self.lock, _stamp) if kept else Bridge(self.lock, _number, Backlog(_is_content, _mark))
        self.recorder = Recorder(self.run_id, shared.tell)
        number = self.recorder.number
        if not self.body.listened:  # nobody reads along here, but others may
            self.body.tell_all()
            made: Bridge[Any] = UnreadBridge(self.lock, number)
        else:
            rest = Backlog(_is_content, _mark, functools.partial(_read_on, shared, self.run_id))
            made = KeptBridge(self.lock, number) if kept else Bridge(self.lock, number, rest)
        made.count = self.body.first_event
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
            self._tell(event)

    def commit(self, apply: Callable[[], object]) -> None:
        """Record a result, unless the outcome is decided.

        Raises:
            RunCancelled: the run takes nothing more.
        """
        with self.lock:
            if self.scope.status is not _RUNNING:
                raise RunCancelled(self.scope.reason)
            apply()

    def keep(self, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Record what has finished, so that a crash doesn't lose it. After it was committed; never fails the run."""
        if self.teller.recorder is not None:
            at = {**(at or {}), "events": self.teller.bridge.count}  # what was told since then belongs to what is open
        try:
            self.store.add_part(self.run_id, kind, value, at)
        except Exception:
            log.exception("run %s: a finished %s could not be stored", self.run_id, kind, extra=self.ids)

    def check(self) -> None:
        """Raise `RunCancelled` if nothing new may start."""
        if self.scope.status is not _RUNNING:
            raise RunCancelled(self.scope.reason)

    def _tell(self, event: Any) -> None:
        """Put an event where it is heard. With the lock held."""
        teller = self.teller
        if teller.note_event is not None:
            teller.note_event(event)
        if teller.bridge.closed or not teller.body.shows(event):
            return
        teller.bridge.put(event)

    def _advance(self) -> None:
        """Do what is due now. See `Stopping`."""
        raise NotImplementedError
