"""The live runs of this process by id, and the pending cancels of ids that are not known yet.

A pending cancel came before its run. The pending cancels are bounded in number and time, so that a wrong id can neither
fill the memory nor harm a later run. A cancel looks up the run and adds the pending cancel under one lock, and a start
adds the run and takes the pending cancel under the same lock, so the two can't miss each other.
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
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome, Reach, Scope
from desist.cancel.status import RunStatus
from desist.exceptions import RunIdInUseError
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.latch import Latch

if TYPE_CHECKING:
    from desist.cancel.reason import Source

__all__ = ["RunHandle", "RunRegistry", "registry"]


class RunHandle(Protocol):
    """A run as this package and the packages below `desist.run` see it."""

    run_id: str
    settled: Latch

    @property
    def record(self) -> CancelRecord | None:
        """The record of its cancel, or None."""

    @property
    def scope(self) -> Scope[RunHandle]:
        """The run as the decisions see it."""

    @property
    def root(self) -> RunHandle:
        """The root of its tree."""

    def cancel(
        self,
        reason: CancelReason,
        *,
        reach: Reach = "tree",
        grace: float | None = None,
        force: bool = False,
        compensate: bool = False,
    ) -> CancelReceipt:
        """Cancel the run or its tree and return the answer."""

    def stop(self, source: Source, text: str | None = None) -> CancelReceipt:
        """Cancel the tree on behalf of the library."""


@dataclass(slots=True)
class _EndedRun:
    status: RunStatus
    record: CancelRecord | None
    settled: Latch
    root: weakref.ref[RunHandle] | None  #: if it is another run; dead once that run is


class RunRegistry:
    """The runs of this process.

    The lock protects the three tables and is a leaf: no other lock is taken while it is held, so callers may hold the
    lock of a run's tree. `cancel` calls the run after it has released the lock.

    Parameters:
        max_intents: how many pending cancels are stored; the oldest is removed first.
        intent_ttl: seconds until a pending cancel expires.
        max_ended: how many ended runs are stored, to answer late cancels.
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
        """Add a run that is about to start; return the reason of a pending cancel of its id, if there is one.

        The pending cancel is removed: it applies to one run. The caller cancels the run with it before anything
        starts. Called with the lock of the run's tree held, so that a cancel that finds the run finds its tree.

        Raises:
            RunIdInUseError: a live run has this id.
        """
        with self._lock:
            if run.run_id in self._live:
                raise RunIdInUseError(f"run id {run.run_id!r} belongs to a live run: pass another run_id, or none")
            self._live[run.run_id] = run
            self._ended.pop(run.run_id, None)
            expires_at, reason = self._intents.pop(run.run_id, (0.0, None))
        return reason if reason is not None and expires_at > self._clock() else None

    def end(self, run: RunHandle, status: RunStatus) -> None:
        """Move a run that has emitted its terminal event to the ended runs. Once.

        The id of an ended child still finds its tree for a cancel, as long as the root is live. The registry may
        already hold a later run of the same id, which is not removed.
        """
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
        """Remove a run that another process has taken over. A second call does nothing."""
        with self._lock:
            if self._live.get(run.run_id) is run:
                del self._live[run.run_id]

    def get(self, run_id: str) -> RunHandle | None:
        """Return the live run with this id, or None. Without the lock: one dictionary look-up is atomic."""
        return self._live.get(run_id)

    def __contains__(self, run_id: str) -> bool:
        """Whether a live or a recently ended run has this id."""
        with self._lock:
            return run_id in self._live or run_id in self._ended

    def live(self) -> list[RunHandle]:
        """Return all live runs."""
        with self._lock:
            return list(self._live.values())

    @property
    def pending_cancels(self) -> int:
        """The number of pending cancels, expired ones included."""
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
        """Cancel the run with this id, or its tree. From any thread; an unknown id becomes a pending cancel.

        A run that ends between the look-up and its own decision answers for itself: its scope decides under the lock
        of its tree.

        Parameters:
            run_id: any id of the tree.
            reason: the request.
            reach: "tree" cancels the whole tree; "run" only this run and the runs below it.
            grace: seconds for cleanup before work that is left is abandoned; None for the grace of the run.
            force: leave no time for cleanup.
            compensate: undo finished steps.
        """
        with self._lock:
            run = self._live.get(run_id)
            ended = self._ended.get(run_id) if run is None else None
            if ended is not None and ended.root is not None and reach == "tree":
                root = ended.root()
                live = self._live.get(root.run_id) if root is not None else None
                run = live if live is root else None  # None if a later run has the id of the root
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
        """Store a cancel for a run to come. With the lock held. A repeated cancel keeps the first reason and time."""
        now = self._clock()
        while self._intents and next(iter(self._intents.values()))[0] <= now:  # or `setdefault` would keep it
            self._intents.popitem(last=False)
        self._intents.setdefault(run_id, (now + self._ttl, reason))
        while len(self._intents) > self._max_intents:
            self._intents.popitem(last=False)

    def reset_after_fork(self) -> None:
        """Reset, in a forked child: the parent's runs don't exist there, and its lock may be held."""
        self._lock = threading.Lock()
        self._live.clear()
        self._ended.clear()
        self._intents.clear()


#: The registry of this process.
registry = RunRegistry()
register_at_fork(after_in_child=registry.reset_after_fork)
