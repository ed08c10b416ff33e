"""The answer to a cancel request, and the record of the cancel, which is stored and sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from desist.cancel.reason import CancelReason, Source
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.runtime.latch import Latch

__all__ = ["Abandoned", "CancelReceipt", "CancelRecord", "CleanupResult"]


@dataclass(slots=True, kw_only=True)
class Abandoned:
    """Work that could not be stopped within the grace: it may still run, and its result is dropped."""

    name: str
    kind: str  #: "thread", "task", "process", or of a hook "on_cancel" or "compensate"
    blocked_in: str | None = None  #: its stack when it was abandoned, as text, where that could be read
    waits_for: str | None = None  #: the system call and the peer, or the process and its command line, where known
    call: str | None = None  #: the tool, function or hook that has started it, if it isn't that call itself
    since: float | None = field(default_factory=time.time)  #: seconds since the epoch


@dataclass(slots=True, kw_only=True)
class CleanupResult:
    """The result of a cleanup hook after a cancel."""

    name: str
    kind: str  #: "on_cancel" or "compensate"
    status: str = "running"  #: "running", "done", "failed" or "stopped" at the end of the grace
    error: str | None = None
    seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class CancelRecord:
    """The record of a run's cancel, in the output, the terminal event and the store.

    Written under the lock of the run's tree, read by receipts without it: each field is assigned once, the
    count and the lists only grow.
    """

    source: Source
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None  #: when the request was accepted; seconds since the epoch, as below
    delivered_at: float | None = None  #: when the interruption of the work began
    settled_at: float | None = None  #: when all work had ended or was declared abandoned
    abandoned: list[Abandoned] = field(default_factory=list)
    upstream_closed: int = 0  #: connections to providers that were closed
    connections_closed: int = 0  #: all connections that were closed, also those that user code has opened
    cleanup: list[CleanupResult] = field(default_factory=list)  #: hooks and compensations, in the order they ran

    @classmethod
    def of(cls, reason: CancelReason) -> CancelRecord:
        """Return a new record for an accepted request."""
        return cls(source=reason.source, reason=reason.text, by=reason.by, requested_at=reason.requested_at)


class CancelReceipt:
    """The answer to a cancel request. Truthy if and only if the run ends, or has ended, `CANCELLED`.

    `outcome` is the answer to this request and never changes. All other values are those of the run at the time of the
    access: the first request wins, so the receipts of all requests of one cancel are equal. Safe to use from any
    thread; a receipt holds no lock and keeps its run alive.
    """

    __slots__ = ("_latch", "_record", "_status", "outcome", "run_id")

    def __init__(
        self,
        outcome: Outcome,
        run_id: str,
        status: Callable[[], RunStatus | None],
        record: CancelRecord | None = None,
        latch: Latch | None = None,
    ) -> None:
        self.outcome = outcome
        self.run_id = run_id  #: the run that the request was decided for: the root of the tree, unless `scope="run"`
        self._status = status
        self._record = record
        self._latch = latch

    def __bool__(self) -> bool:
        return self.outcome in (Outcome.accepted, Outcome.already_cancelling, Outcome.already_cancelled)

    @property
    def status(self) -> RunStatus | None:
        """The current status of the run: `CANCELLING`, then `CANCELLED`; None for an unknown run."""
        return self._status()

    @property
    def record(self) -> CancelRecord | None:
        """The record of the cancel, or None if the run isn't cancelled."""
        return self._record

    @property
    def source(self) -> Source | None:
        """The source of the first request."""
        return self._record.source if self._record else None

    @property
    def reason(self) -> str | None:
        """The text of the first request."""
        return self._record.reason if self._record else None

    @property
    def by(self) -> str | None:
        """The requester of the first request."""
        return self._record.by if self._record else None

    @property
    def requested_at(self) -> float | None:
        """The time of the first request, in seconds since the epoch."""
        return self._record.requested_at if self._record else None

    @property
    def settled_at(self) -> float | None:
        """The time at which all work had ended or was declared abandoned; None until then."""
        return self._record.settled_at if self._record else None

    @property
    def abandoned(self) -> list[Abandoned]:
        """Work that could not be stopped. Complete once settled."""
        return list(self._record.abandoned) if self._record else []

    @property
    def upstream_closed(self) -> int:
        """The number of connections to providers that were closed. Complete once settled."""
        return self._record.upstream_closed if self._record else 0

    @property
    def connections_closed(self) -> int:
        """The number of all connections that were closed, also of those that user code has opened. As above."""
        return self._record.connections_closed if self._record else 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has settled, for at most `timeout` seconds; return whether it has.

        Returns at once for a run that isn't cancelled: True if it has finished, False if it is unknown.
        """
        return self._latch.wait(timeout) if self._latch else self.outcome is Outcome.finished

    def __await__(self) -> Generator[Any, None, CancelReceipt]:
        if self._latch is not None:
            yield from self._latch.wait_async().__await__()
        return self

    def _key(self) -> tuple[object, ...]:
        return self.run_id, bool(self), self.source, self.reason, self.by, self.requested_at

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, CancelReceipt) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        state = f" {self.status.value}" if self.status else ""
        why = f" {self.source.value}: {self.reason}" if self.source and self.reason else ""
        return f"<CancelReceipt {self.outcome.value}{state} run={self.run_id}{why}>"
