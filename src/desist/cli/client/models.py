"""A run and a receipt as a depot tells them: the fields of `/v1`, and what commands want to know of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from desist.cancel.receipt import CancelReceipt
from desist.cancel.status import RunStatus
from desist.run.observability.summary import receipt_summary, run_summary
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import StoredRun

__all__ = ["LIVE", "LiveInfo", "ReceiptInfo", "RunInfo"]

#: Statuses of runs that have no end yet.
LIVE = tuple(status.value for status in RunStatus if not status.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run. The fields are those of the server's `RunInfo`, and its `output` where the whole run was asked for."""

    run_id: str
    kind: str
    id: str | None  #: of the workflow or agent
    name: str | None = None  #: of the workflow or agent
    status: str
    session_id: str | None = None
    user_id: str | None = None
    created_at: float = 0.0  #: seconds since the epoch
    duration: float | None = None  #: seconds that it took; None: it lives, or nobody knows
    asked: str | None = None  #: the beginning of what it was asked
    steps: list[str] = field(default_factory=list)  #: names of its open steps, where they are known
    root_run_id: str = ""
    parent_run_id: str | None = None
    continued_from: str | None = None
    store_error: str | None = None  #: why its end may not be stored, or can't be read
    cancel: dict[str, Any] | None = None
    output: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return it from a server's JSON; keys that aren't known are ignored."""
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})

    @classmethod
    def of_stored(cls, run: StoredRun, *, whole: bool = False) -> Self:
        """Return it from what a store has."""
        return cls.of(run_summary(run) | ({"output": to_json_value(run.output)} if whole else {}))

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.output is None:
            del told["output"]
        return told

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet."""
        return self.status in LIVE

    @property
    def what(self) -> str:
        """What it is a run of."""
        return self.name or self.id or self.kind

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return max(0.0, time.time() - self.created_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveInfo:
    """What lives of a run at a moment, where that can be seen."""

    blocked_in: list[str] = field(default_factory=list)  #: what it waits for, in words
    left: list[dict[str, Any]] = field(default_factory=list)  #: what was given up, and still runs
    grace_left: float | None = None  #: seconds until what doesn't end is given up
    tokens: int = 0  #: of the model calls that have ended

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return it from a server's JSON: what the innermost runs of the tree wait for."""
        runs = data.get("runs") or []
        parents = {run.get("parent_run_id") for run in runs}
        inner = [run for run in runs if run["run_id"] not in parents]
        graces = [run["grace_left"] for run in runs if run.get("grace_left") is not None]
        waits = [place for run in inner for place in run.get("blocked_in") or ()]
        return cls(blocked_in=waits, left=list(data.get("left") or ()), grace_left=max(graces, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptInfo:
    """The answer to a cancel request. The fields are those of the server's `ReceiptInfo`."""

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
    def of_request(cls, receipt: CancelReceipt) -> Self:
        """Return a receipt as it is now."""
        return cls(**receipt_summary(receipt), asked=receipt)

    def __bool__(self) -> bool:
        return self.outcome in ("accepted", "already_cancelling", "already_cancelled")

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen."""
        return self.status != RunStatus.cancelling.value if self else True

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "asked"}
