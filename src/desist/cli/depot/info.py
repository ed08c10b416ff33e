"""A run and a receipt as a depot tells them: the fields of `/v1`, and what commands want to know of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from desist.cancel.receipt import CancelReceipt
from desist.cancel.status import RunStatus
from desist.run.plain import plain
from desist.run.stored import StoredRun

__all__ = ["LIVE", "Receipt", "RunInfo"]

#: Statuses of runs that have no end yet.
LIVE = tuple(status.value for status in RunStatus if not status.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run. The fields are those of the server's `RunInfo`, and its `output` where the whole run was asked for."""

    run_id: str
    kind: str
    id: str | None  #: of the workflow or agent
    status: str
    session_id: str | None = None
    user_id: str | None = None
    created_at: float = 0.0  #: seconds since the epoch
    root_run_id: str = ""
    parent_run_id: str | None = None
    continued_from: str | None = None
    cancel: dict[str, Any] | None = None
    blocked_in: list[str] | None = None  #: what it waits for, where that can be seen
    output: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return it from a server's JSON; keys that aren't known are ignored."""
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})

    @classmethod
    def of_stored(cls, run: StoredRun, *, whole: bool = False) -> Self:
        """Return it from what a store has."""
        output = run.output
        return cls(
            run_id=run.run_id,
            kind=run.kind,
            id=run.owner_id,
            status=run.status.value,
            session_id=run.session_id,
            user_id=run.user_id,
            created_at=run.created_at,
            root_run_id=run.root_run_id,
            parent_run_id=run.parent_run_id,
            continued_from=getattr(output, "continued_from", None),
            cancel=plain(output.cancel) if output.cancel is not None else None,
            output=plain(output) if whole else None,
        )

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: value for name, value in told.items() if value is not None or name not in ("output", "blocked_in")
        }

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet."""
        return self.status in LIVE

    @property
    def name(self) -> str:
        """What it is a run of."""
        return self.id or self.kind

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return max(0.0, time.time() - self.created_at)

    @property
    def seconds(self) -> float | None:
        """How long it took; None for one that has no end, or didn't say."""
        metrics = (self.output or {}).get("metrics") or {}
        took = metrics.get("duration")
        ended = (self.cancel or {}).get("settled_at")
        if took is None and ended is not None and not self.is_live:
            return max(0.0, float(ended) - self.created_at)
        return None if took is None else float(took)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to a cancel request. The fields are those of the server's `Receipt`."""

    run_id: str
    outcome: str
    status: str | None = None
    source: str | None = None
    reason: str | None = None
    by: str | None = None
    requested_at: float | None = None
    delivered_at: float | None = None
    settled_at: float | None = None
    upstream_closed: int = 0
    abandoned: list[dict[str, Any]] = field(default_factory=list)
    cleanup: list[dict[str, Any]] = field(default_factory=list)
    asked: CancelReceipt | None = field(
        default=None, repr=False, compare=False
    )  #: of a run in a database: to wait with

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return it from a server's JSON."""
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data and f.name != "asked"})

    @classmethod
    def of_asked(cls, receipt: CancelReceipt) -> Self:
        """Return a receipt as it is now."""
        record, status = receipt.record, receipt.status
        known = {} if record is None else plain(dataclasses.asdict(record))
        told = None if status is None else status.value
        return cls(run_id=receipt.run_id, outcome=receipt.outcome.value, status=told, asked=receipt, **known)

    def __bool__(self) -> bool:
        return self.outcome in ("accepted", "already_cancelling", "already_cancelled")

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen."""
        return self.status != RunStatus.cancelling.value if self else True

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "asked"}
