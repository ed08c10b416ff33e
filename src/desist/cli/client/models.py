"""A run, its live state and a cancel receipt as clients return them: the fields of `/v1` and derived properties."""

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

#: The statuses of runs that have not ended.
LIVE = tuple(status.value for status in RunStatus if not status.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run, with the fields of the server's `RunInfo`, and with its `output` if the whole run was requested."""

    run_id: str
    kind: str
    id: str | None  #: of the workflow or agent
    name: str | None = None  #: of the workflow or agent
    status: str
    session_id: str | None = None
    user_id: str | None = None
    created_at: float = 0.0  #: seconds since the epoch
    duration: float | None = None  #: seconds; None if the run is live or its duration unknown
    asked: str | None = None  #: the beginning of its input
    steps: list[str] = field(default_factory=list)  #: names of its open steps, if known
    root_run_id: str = ""
    parent_run_id: str | None = None
    continued_from: str | None = None
    store_error: str | None = None  #: why its end may not be stored or can't be read
    cancel: dict[str, Any] | None = None
    output: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return a run from a server's JSON; unknown keys are ignored."""
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data})

    @classmethod
    def of_stored(cls, run: StoredRun, *, whole: bool = False) -> Self:
        """Return a run from a stored run."""
        return cls.of(run_summary(run) | ({"output": to_json_value(run.output)} if whole else {}))

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.output is None:
            del values["output"]
        return values

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended."""
        return self.status in LIVE

    @property
    def what(self) -> str:
        """The name of the workflow or agent."""
        return self.name or self.id or self.kind

    @property
    def age(self) -> float:
        """Seconds since the start of the run."""
        return max(0.0, time.time() - self.created_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveInfo:
    """The live state of a run at one moment, as far as it is visible."""

    blocked_in: list[str] = field(default_factory=list)  #: descriptions of the calls that it waits for
    left: list[dict[str, Any]] = field(default_factory=list)  #: abandoned calls that still run
    grace_left: float | None = None  #: seconds until calls that don't end are abandoned
    tokens: int = 0  #: used by the model calls that have ended

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the state from a server's JSON. `blocked_in` is that of the innermost runs of the tree."""
        runs = data.get("runs") or []
        parents = {run.get("parent_run_id") for run in runs}
        inner = [run for run in runs if run["run_id"] not in parents]
        graces = [run["grace_left"] for run in runs if run.get("grace_left") is not None]
        waits = [call for run in inner for call in run.get("blocked_in") or ()]
        return cls(blocked_in=waits, left=list(data.get("left") or ()), grace_left=max(graces, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptInfo:
    """The receipt of a cancel request, with the fields of the server's `ReceiptInfo`."""

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
    connections_closed: int = 0
    abandoned: list[dict[str, Any]] = field(default_factory=list)
    cleanup: list[dict[str, Any]] = field(default_factory=list)
    #: for a run in a database: the receipt to wait on
    receipt: CancelReceipt | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return a receipt from a server's JSON."""
        return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data and f.name != "receipt"})

    @classmethod
    def of_request(cls, receipt: CancelReceipt) -> Self:
        """Return the current state of a receipt."""
        return cls(**receipt_summary(receipt), receipt=receipt)

    def __bool__(self) -> bool:
        return self.outcome in ("accepted", "already_cancelling", "already_cancelled")

    @property
    def is_settled(self) -> bool:
        """Whether the receipt is final: the run has settled, or the request was not accepted."""
        return self.status != RunStatus.cancelling.value if self else True

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "receipt"}
