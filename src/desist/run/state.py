"""What is known of a run, and what its reader is told. Its end is in `ending`, stopping it in `stopping`."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from desist.cancel.bridge import Bridge
from desist.cancel.delivery import Tasks
from desist.cancel.pulse import Pulse
from desist.cancel.reaper import Timer
from desist.cancel.reason import CancelReason
from desist.cancel.receipt import CancelRecord, Latch
from desist.cancel.scope import Scope
from desist.cancel.status import RunStatus
from desist.cancel.token import CancelToken
from desist.exceptions import RunCancelled
from desist.run.body import Body
from desist.run.budget import Spending
from desist.run.store import RunStore
from desist.run.tracing import trace_run

if TYPE_CHECKING:
    from desist.run.telemetry import Spans

__all__ = ["DEFAULT_GRACE", "RunState"]

#: Seconds for cleanup after a cancel, before what is left is abandoned.
DEFAULT_GRACE = 0.05
_RUNNING = RunStatus.running


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
    ) -> None:
        self.run_id = run_id or str(uuid.uuid4())
        self.body = body
        self.store = store
        self.grace = DEFAULT_GRACE if grace is None else grace
        self.lock: threading.Lock = parent.lock if parent else threading.Lock()
        self.scope = Scope(self.run_id, bound=bound, owner=self)
        self.token: CancelToken = parent.token.child() if parent else CancelToken()
        self.record: CancelRecord | None = None
        self.settled = Latch()
        self.error: BaseException | None = None
        self.tasks = Tasks()
        self.teller: RunState = parent.teller if parent and bound else self  #: the run whose reader hears of this one
        self.bridge: Bridge[Any] = self.teller.bridge if bound and parent else Bridge(self.lock)
        self.spending: tuple[Spending, ...] = parent.spending if parent else ()
        self._due = 0.0
        self._pulses: dict[asyncio.AbstractEventLoop, Pulse] = {}
        self._forced = False
        self._told_to_stop = False  #: whether whoever cancelled it has told all its work
        self.limit_reason: CancelReason | None = None  #: with which whoever started it wanted to put an end to it
        self.compensate = False  #: whether a cancel asked for compensations
        self._tidying = Tasks()
        self._tidy_token = CancelToken()
        self._limits: list[Timer] = []
        self.opened_at = time.monotonic()
        self.ids = {"run_id": self.run_id, "root_run_id": self.run_id}  #: what a log record about it carries
        self.token.ids = self._tidy_token.ids = self.ids
        self.spans: Spans | None = trace_run(self)

    @property
    def root(self) -> Any:
        """The run at the top of the tree."""
        return self.scope.root.owner

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

    def check(self) -> None:
        """Raise `RunCancelled` if nothing new may start."""
        if self.scope.status is not _RUNNING:
            raise RunCancelled(self.scope.reason)

    def _tell(self, event: Any) -> None:
        """Put an event where it is heard. With the lock held."""
        teller = self.teller
        if teller.bridge.closed or not teller.body.shows(event):
            return
        event.event_index = teller.bridge.count
        teller.bridge.put(event)

    def _advance(self) -> None:
        """Do what is due now. See `Stopping`."""
        raise NotImplementedError
