"""`RunRecorder`: stores runs in tables that one process uses: no claims, no epochs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from desist.db.process.identity import this_process
from desist.db.records.codec import encode, encode_part
from desist.db.records.rows import put_run
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.db.writer import Writer
from desist.run.storage.values import PartKind, StoredRun

__all__ = ["DroppedParts", "RunRecorder"]

log = logging.getLogger("desist.db")


class DroppedParts:
    """Counts the checkpoints that a full writer has refused."""

    def __init__(self, name: str) -> None:
        self._name, self._lock, self._count = name, threading.Lock(), 0

    def log(self) -> None:
        """Count one, and log the 1st, 2nd, 4th, ..."""
        with self._lock:
            self._count += 1
            count = self._count
        if count & (count - 1) == 0:
            log.error("%s is too slow: %d checkpoints of runs were not stored", self._name, count)


class RunRecorder:
    """The part of `TableStore` that stores runs."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer, self._dropped = writer, DroppedParts(name)
        self.unwritten = UnwrittenEnds(writer, self.save_run)

    def save_run(self, run: StoredRun) -> Future[None]:
        """Store a run, and its change of the session, in one transaction."""
        process = run.process or this_process()
        if not run.status.is_final:
            text = encode(run.output)
            return self._writer.put(lambda tables: put_run(tables, run, process, text))
        # An ended run does not change any more, so it is encoded in the writer's thread.
        done = self._writer.put(lambda tables: put_run(tables, run, process, None))
        done.add_done_callback(lambda ended: self.unwritten.settle(run, ended.exception()))
        return done

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint of a live run."""
        row = encode_part(run_id, kind, value, at)
        if not self._writer.put_droppable(lambda tables: tables.parts.add(row)):
            self._dropped.log()
