"""Why a run was cancelled: the source, the words, who asked, when. A value that travels everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["CancelReason", "Source"]


class Source(str, Enum):
    """What kind of thing asked: a closed set."""

    user = "user"  #: somebody called cancel
    parent = "parent"  #: the run that this one was started in ended first
    child = "child"  #: a child that was cancelled by itself
    sibling = "sibling"  #: another branch was cancelled or failed
    deadline = "deadline"
    stall = "stall"  #: no token for too long
    budget = "budget"
    consumer_closed = "consumer_closed"  #: the reader left: break, close(), an exception, garbage collection
    client_disconnected = "client_disconnected"
    interrupt = "interrupt"  #: Ctrl-C
    shutdown = "shutdown"  #: SIGTERM, interpreter exit, a loop that closes
    lease_lost = "lease_lost"  #: another worker owns the run now, or is to


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReason:
    """One cancel request, as it is recorded. The first one of a run wins and never changes."""

    source: Source
    text: str | None = None  #: free words of whoever asked
    by: str | None = None  #: who asked
    requested_at: float = field(default_factory=time.time)  #: seconds since the epoch

    def __str__(self) -> str:
        words = f": {_one_line(self.text)}" if self.text else ""
        return f"{self.source.value}{words}" + (f" (by {_one_line(self.by)})" if self.by else "")

    def derived(self, source: Source) -> CancelReason:
        """Return the same request as seen by another run of the tree."""
        return CancelReason(source=source, text=self.text, by=self.by, requested_at=self.requested_at)


def _one_line(text: str) -> str:
    """Return words of others so that they can stand in a log: they can't begin a line there, or steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
