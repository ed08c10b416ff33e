"""Requests to cancel a run as JSON text, which is how they travel from process to process; and back.

Pure. Who asks and who obeys is in `transactions` and `lease_keeper`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import msgspec

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelRecord
from desist.run.storage.values import CancelRequest

__all__ = ["CancelRequestRow", "decode_cancel_request", "record_of"]

log = logging.getLogger("desist.db")

#: How many processes may wait for the end of one run and be woken; others look for themselves.
LISTENERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequestRow:
    """What a run's record says of its cancel."""

    source: Source
    text: str | None = None
    by: str | None = None
    requested_at: float = 0.0
    reach: str = "tree"
    grace: float | None = None
    force: bool = False
    compensate: bool = False
    delivered_at: float | None = None  #: its process knows
    listeners: list[str] = field(default_factory=list)  #: addresses of those who want to hear of the end

    @classmethod
    def of(cls, request: CancelRequest, *listeners: str) -> CancelRequestRow:
        """Return what is recorded of a request."""
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
        """Return it after another request for the same run: the first reason stays, a grace can only be shortened."""
        graces = [grace for grace in (self.grace, again.grace) if grace is not None]
        new = [listener for listener in listeners if listener not in self.listeners]
        return replace(
            self,
            grace=min(graces, default=None),
            force=self.force or again.force,
            listeners=[*self.listeners, *new][:LISTENERS],
        )

    def text_of(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(self).decode()


def decode_cancel_request(text: str) -> CancelRequestRow:
    """Return a request from its JSON. An unreadable one is a request all the same: for an unknown reason."""
    try:
        return msgspec.json.decode(text, type=CancelRequestRow)
    except ValueError as error:
        log.error("a stored cancel request can't be read, and is applied without its reason: %s", error)
        return CancelRequestRow(source=Source.user, text="(the stored reason can't be read)")


def record_of(text: str) -> CancelRecord:
    """Return the record of a cancel that hasn't settled."""
    note = decode_cancel_request(text)
    record = CancelRecord.of(note.request().reason)
    record.delivered_at = note.delivered_at
    return record
