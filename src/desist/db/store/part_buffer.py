"""`PartBuffer`: the checkpoints of runs on their way to the writer, which stores those of all runs together.

The end of a run takes the checkpoints of that run that are not stored yet, because an ended run has none.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from desist.db.writer import LIMIT
from desist.runtime.fork_hooks import register_at_fork

if TYPE_CHECKING:
    from desist.db.coordination.lease_keeper import LeaseKeeper
    from desist.db.store.run_recorder import DroppedParts
    from desist.db.tables.base import PartRow
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["PartBuffer"]


class PartBuffer:
    """The checkpoints of one store. Methods may be called from any thread; the lock is held for moments."""

    def __init__(self, writer: Writer, leases: LeaseKeeper, dropped: DroppedParts) -> None:
        self._writer, self._leases, self._dropped = writer, leases, dropped
        self.reset_after_fork()
        _all.add(self)

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the runs are the parent's."""
        self._lock = threading.Lock()
        self._parts: dict[str, list[PartRow]] = {}  #: by run
        self._claiming: set[str] = set()  #: runs whose claims are on their way to the writer
        self._count = 0
        self._in_writer = False  #: whether the writer has a job that takes the parts

    def add(self, *parts: PartRow) -> None:
        """Store checkpoints soon. Those that find no room are dropped, which is logged."""
        with self._lock:
            put = not self._in_writer and bool(parts)
            for part in parts:
                if self._count >= LIMIT // 2:
                    self._dropped.log()
                    continue
                self._parts.setdefault(part.run_id, []).append(part)
                self._count += 1
            self._in_writer = self._in_writer or put
        if put:
            self._give_to_writer()

    def _give_to_writer(self) -> None:
        rows: list[PartRow] = []

        def write(tables: SqlTables) -> None:
            rows.extend(self._take_ready())  # a repeated transaction writes the same rows, and those that came since
            pairs = [(row, self._leases.epoch_of(row.run_id)) for row in rows]
            if not tables.parts.add_all(pairs):
                self._leases.check_ownership_soon()  # in the notifier's thread: this one holds the transaction

        if not self._writer.put_droppable(write):  # the queue is full
            for _ in self._take_all():
                self._dropped.log()

    def _take_ready(self) -> list[PartRow]:
        """Take the parts but for those of runs whose claims are behind this job in the queue."""
        with self._lock:
            ready = [run_id for run_id in sorted(self._parts) if run_id not in self._claiming]
            parts = [part for run_id in ready for part in self._parts.pop(run_id)]
            self._count -= len(parts)
            self._in_writer = False
        return parts

    def expect_claim(self, run_id: str) -> None:
        """Keep the parts of a run until its claim is written. Before the claim is given to the writer."""
        with self._lock:
            self._claiming.add(run_id)

    def on_claimed(self, run_id: str) -> None:
        """Give the parts of a run to the writer that waited for its claim, written or not."""
        with self._lock:
            self._claiming.discard(run_id)
            put = not self._in_writer and run_id in self._parts
            self._in_writer = self._in_writer or put
        if put:
            self._give_to_writer()

    def _take_all(self) -> list[PartRow]:
        with self._lock:
            parts, self._parts, self._count, self._in_writer = self._parts, {}, 0, False
        return [part for run_id in sorted(parts) for part in parts[run_id]]

    def __bool__(self) -> bool:
        return self._count > 0

    def take(self, run_id: str) -> list[PartRow]:
        """Remove and return the checkpoints of a run that are not stored yet."""
        with self._lock:
            parts = self._parts.pop(run_id, [])
            self._count -= len(parts)
        return parts


_all: weakref.WeakSet[PartBuffer] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for buffer in list(_all):
        buffer.reset_after_fork()


register_at_fork(after_in_child=_reset_after_fork)
