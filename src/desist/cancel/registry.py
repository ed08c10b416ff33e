"""Which runs live in this process, found by any id of their tree; and the intents for ids not seen yet.

An intent is a cancel that came before its run: bounded in number and time, so that a wrong id can neither fill the
memory nor harm a later run. Looking up, remembering and forgetting are steps under one lock, so that a cancel and a
start can't miss each other.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from desist.cancel.reason import CancelReason
from desist.cancel.receipt import CancelReceipt, CancelRecord, Latch
from desist.cancel.scope import Outcome, Reach, Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunIdInUseError

if TYPE_CHECKING:
    from desist.cancel.reason import Source

__all__ = ["RunHandle", "RunRegistry", "registry"]


class RunHandle(Protocol):
    """What the floors below know of a run."""

    run_id: str
    record: CancelRecord | None
    settled: Latch

    @property
    def scope(self) -> Scope[RunHandle]:
        """The run as the decisions see it."""

    @property
    def root(self) -> RunHandle:
        """The run at the top of its tree."""

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Decide, interrupt, answer."""

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the tree, from inside the library."""


@dataclass(slots=True)
class _EndedRun:
    status: RunStatus
    record: CancelRecord | None
    settled: Latch
    root: weakref.ref[RunHandle] | None  #: while the tree lives on


class RunRegistry:
    """The runs of this process.

    Parameters:
        max_intents: how many unknown ids are remembered; the oldest goes first.
        intent_ttl: for how many seconds.
        max_ended: how many ended runs are remembered, so that a late cancel can be answered.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        max_intents: int = 10_000,
        intent_ttl: float = 60.0,
        max_ended: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, RunHandle] = {}
        self._ended: OrderedDict[str, _EndedRun] = OrderedDict()
        self._intents: OrderedDict[str, tuple[float, CancelReason]] = OrderedDict()
        self._max_intents, self._ttl, self._max_ended, self._clock = max_intents, intent_ttl, max_ended, clock

    def add(self, run: RunHandle) -> CancelReason | None:
        """Note a run that is about to start; return the cancel that came before it, if one did.

        Raises:
            RunIdInUseError: a live run has this id.
        """
        with self._lock:
            if run.run_id in self._live:
                raise RunIdInUseError(f"run id {run.run_id!r} belongs to a run that is live: choose another, or none")
            self._live[run.run_id] = run
            self._ended.pop(run.run_id, None)
            due, reason = self._intents.pop(run.run_id, (0.0, None))
        return reason if reason is not None and due > self._clock() else None

    def end(self, run: RunHandle, status: RunStatus) -> None:
        """Note that a run has told its end. Its id finds its tree for as long as that lives."""
        root = run.root
        with self._lock:
            if self._live.get(run.run_id) is run:
                del self._live[run.run_id]
            self._ended[run.run_id] = _EndedRun(
                status, run.record, run.settled, None if root is run else weakref.ref(root)
            )
            while len(self._ended) > self._max_ended:
                self._ended.popitem(last=False)

    def discard(self, run: RunHandle) -> None:
        """Note that a run isn't this process's any more: how it ends is known elsewhere."""
        with self._lock:
            if self._live.get(run.run_id) is run:
                del self._live[run.run_id]

    def get(self, run_id: str) -> RunHandle | None:
        """Return the live run with this id."""
        return self._live.get(run_id)

    def __contains__(self, run_id: str) -> bool:
        """Whether a cancel by this id finds a run, live or ended not long ago."""
        with self._lock:
            return run_id in self._live or run_id in self._ended

    def live(self) -> list[RunHandle]:
        """Return all live runs."""
        with self._lock:
            return list(self._live.values())

    @property
    def pending_cancels(self) -> int:
        """How many intents are remembered."""
        return len(self._intents)

    def cancel(
        self,
        run_id: str,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Cancel the run with this id, or the tree that it belongs to, and say truthfully what that means.

        Parameters:
            run_id: any id of the tree.
            reason: who asks, and why.
            reach: "tree" stops the whole run; "run" only this one and what hangs below it.
            grace: seconds for cleanup before what is left is abandoned; None for the run's own.
            force: don't wait for cleanup at all.
            compensate: undo finished steps.
        """
        with self._lock:
            run = self._live.get(run_id)
            ended = self._ended.get(run_id) if run is None else None
            if ended is not None and ended.root is not None and reach == "tree":
                root = ended.root()
                live = self._live.get(root.run_id) if root is not None else None
                run = live if live is root else None  # not a later run of the same id
            if run is None and ended is None:
                self._add_pending_cancel(run_id, reason)
                return CancelReceipt(Outcome.unknown, run_id, lambda: None)
        if run is not None:
            return run.cancel(reason, reach=reach, grace=grace, force=force, compensate=compensate)
        assert ended is not None
        status = ended.status
        outcome = Outcome.already_cancelled if status is RunStatus.cancelled else Outcome.finished
        return CancelReceipt(outcome, run_id, lambda: status, ended.record, ended.settled)

    def _add_pending_cancel(self, run_id: str, reason: CancelReason) -> None:
        now = self._clock()
        while self._intents and next(iter(self._intents.values()))[0] <= now:  # before a stale one is kept
            self._intents.popitem(last=False)
        self._intents.setdefault(run_id, (now + self._ttl, reason))
        while len(self._intents) > self._max_intents:
            self._intents.popitem(last=False)

    def reset_after_fork(self) -> None:
        """Start anew, in a forked child: the parent's runs aren't here."""
        self._lock = threading.Lock()
        self._live.clear()
        self._ended.clear()
        self._intents.clear()


#: The registry of this process.
registry = RunRegistry()
