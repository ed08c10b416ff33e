"""Cancel requests as JSON text: the form in which they are stored, and pass from process to process."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import msgspec

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelRecord
from desist.run.storage.values import CancelRequest

__all__ = ["CancelRequestRow", "decode_cancel_request", "record_of"]

log = logging.getLogger("desist.db")

#: The maximum of processes that are notified of the end of one run; others poll.
LISTENERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequestRow:
    """The cancel request in the record of a run."""

    source: Source
    text: str | None = None
    by: str | None = None
    requested_at: float = 0.0
    reach: str = "tree"
    grace: float | None = None
    force: bool = False
    compensate: bool = False
    delivered_at: float | None = None  #: when its process began to apply it
    listeners: list[str] = field(default_factory=list)  #: addresses of the processes to notify of the end

    @classmethod
    def of(cls, request: CancelRequest, *listeners: str) -> CancelRequestRow:
        """Return the row of a request."""
        reason = request.reason
        return cls(
            source=reason.source,
            text=reason.text,
            by=reason.by,
            requested_at=reason.requested_at,
            reach=request.reach,
            grace=request.grace,
            force=request.force,
            compensate=request.compensate,
            listeners=list(listeners),
        )

    def request(self) -> CancelRequest:
        """Return the request."""
        reason = CancelReason(source=self.source, text=self.text, by=self.by, requested_at=self.requested_at)
        return CancelRequest(
            reason=reason,
            reach="run" if self.reach == "run" else "tree",
            grace=self.grace,
            force=self.force,
            compensate=self.compensate,
        )

    def repeated(self, again: CancelRequest, *listeners: str) -> CancelRequestRow:
        """Return the row after another request for the run: the first reason stays, the grace can only shrink."""
        graces = [grace for grace in (self.grace, again.grace) if grace is not None]
        new = [listener for listener in listeners if listener not in self.listeners]
        return replace(
            self,
            grace=min(graces, default=None),
            force=self.force or again.force,
            listeners=[*self.listeners, *new][:LISTENERS],
        )

    def text_of(self) -> str:
        """Return the row as JSON."""
        return msgspec.json.encode(self).decode()


def decode_cancel_request(text: str) -> CancelRequestRow:
    """Return a request from its JSON. A request that can't be decoded is applied all the same, without its reason."""
    try:
        return msgspec.json.decode(text, type=CancelRequestRow)
    except ValueError as error:
        log.error("a stored cancel request can't be decoded, and is applied without its reason: %s", error)
        return CancelRequestRow(source=Source.user, text="(the stored reason can't be read)")


def record_of(text: str) -> CancelRecord:
    """Return the record of a cancel that has not settled."""
    row = decode_cancel_request(text)
    record = CancelRecord.of(row.request().reason)
    record.delivered_at = row.delivered_at
    return record
