"""The truthful answer to a cancel request, and the record behind it that is stored and sent."""

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
    """Work that Python couldn't stop within the grace: it may still run; its result is thrown away."""

    name: str
    kind: str  #: "thread", "task", "process", or of a hook "on_cancel" or "compensate"
    blocked_in: str | None = None  #: its stack when it was given up, as text, where it could be read
    since: float | None = field(default_factory=time.time)  #: seconds since the epoch


@dataclass(slots=True, kw_only=True)
class CleanupResult:
    """What became of a hook that cleaned up after a cancel."""

    name: str
    kind: str  #: "on_cancel" or "compensate"
    status: str = "running"  #: "running", "done", "failed" or "stopped", which is at the end of the grace
    error: str | None = None
    seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class CancelRecord:
    """What is known of a run's cancel: it stands in the output, the terminal event and the store."""

    source: Source
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None  #: the request was accepted; seconds since the epoch, as are the others
    delivered_at: float | None = None  #: the work was told
    settled_at: float | None = None  #: the work was gone, or declared abandoned
    abandoned: list[Abandoned] = field(default_factory=list)
    upstream_closed: int = 0  #: connections to providers that were closed
    cleanup: list[CleanupResult] = field(default_factory=list)  #: hooks and compensations, in the order they ran

    @classmethod
    def of(cls, reason: CancelReason) -> CancelRecord:
        """Return the record of a request that was just accepted."""
        return cls(source=reason.source, reason=reason.text, by=reason.by, requested_at=reason.requested_at)


class CancelReceipt:
    """What became of a cancel request. Truthy exactly when the run ends, or has ended, `CANCELLED`.

    `outcome` tells how this request was answered. Everything else is the run's: receipts of one cancel are equal,
    whoever asked first.
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
        self.run_id = run_id  #: of the run that was decided about: the tree's root, unless `scope="run"`
        self._status = status
        self._record = record
        self._latch = latch

    def __bool__(self) -> bool:
        return self.outcome in (Outcome.accepted, Outcome.already_cancelling, Outcome.already_cancelled)

    @property
    def status(self) -> RunStatus | None:
        """Where the run stands now: `CANCELLING`, then `CANCELLED`; None for an unknown run."""
        return self._status()

    @property
    def record(self) -> CancelRecord | None:
        """The cancel as it is recorded, or None if the run isn't cancelled."""
        return self._record

    @property
    def source(self) -> Source | None:
        """What kind of thing asked first."""
        return self._record.source if self._record else None

    @property
    def reason(self) -> str | None:
        """The words of whoever asked first."""
        return self._record.reason if self._record else None

    @property
    def by(self) -> str | None:
        """Who asked first."""
        return self._record.by if self._record else None

    @property
    def requested_at(self) -> float | None:
        """When, in seconds since the epoch."""
        return self._record.requested_at if self._record else None

    @property
    def settled_at(self) -> float | None:
        """When all work had stopped or was declared abandoned; None until then."""
        return self._record.settled_at if self._record else None

    @property
    def abandoned(self) -> list[Abandoned]:
        """Work that could not be stopped. Complete once settled."""
        return list(self._record.abandoned) if self._record else []

    @property
    def upstream_closed(self) -> int:
        """How many connections to providers were closed. Complete once settled."""
        return self._record.upstream_closed if self._record else 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has settled, for at most `timeout` seconds; return whether it has.

        For an unknown run there is nothing to wait for: False.
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
