"""Why a run was cancelled: source, text, requester and time, in one immutable value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["CancelReason", "Source"]


class Source(str, Enum):
    """The kind of cause of a cancel: a closed set."""

    user = "user"  #: a call of `cancel`
    parent = "parent"  #: the parent run ended or was cancelled first
    child = "child"  #: a child run was cancelled on its own
    sibling = "sibling"  #: another branch was cancelled or failed
    deadline = "deadline"
    stall = "stall"  #: no output of the model for too long
    budget = "budget"
    consumer_closed = "consumer_closed"  #: the reader left: break, close(), an exception, garbage collection
    client_disconnected = "client_disconnected"
    interrupt = "interrupt"  #: Ctrl-C
    shutdown = "shutdown"  #: SIGTERM, interpreter exit, a loop that closes
    lease_lost = "lease_lost"  #: another worker owns the run now, or will


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReason:
    """One cancel request, as it is recorded. The first one of a run wins and never changes."""

    source: Source
    text: str | None = None  #: free text of the requester
    by: str | None = None  #: the requester
    requested_at: float = field(default_factory=time.time)  #: seconds since the epoch

    def __str__(self) -> str:
        text = f": {_one_line(self.text)}" if self.text else ""
        return f"{self.source.value}{text}" + (f" (by {_one_line(self.by)})" if self.by else "")

    def derived(self, source: Source) -> CancelReason:
        """Return the same request with the source that it has for another run of the tree."""
        return CancelReason(source=source, text=self.text, by=self.by, requested_at=self.requested_at)


def _one_line(text: str) -> str:
    """Return text of a requester escaped for logs: it can neither start a new line nor control a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
