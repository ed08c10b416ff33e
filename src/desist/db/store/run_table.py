"""`RunTable`: reads and deletes runs in tables, shared or not, and reserves ids that clients choose.

Reads are made in the caller's thread, writes by the writer. The first read of an orphan ends it (guarantee 12): its
output is rebuilt from its checkpoints, open tool calls get a result, and the status is `ERROR`, or `CANCELLED` if it
has a cancel request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from desist.cancel.registry import registry
from desist.db.backends.base import StorageBackend
from desist.db.coordination.claims import drop_reservation, reserve_run
from desist.db.process.live_runs import LiveRuns
from desist.db.process.unregistered_runs import unregistered_runs
from desist.db.records.codec import unreadable
from desist.db.records.rows import stored_of, with_answers, with_children
from desist.db.recovery.orphans import PAUSED, end_orphans, final_output, is_over, is_resumable, orphan_reason
from desist.db.recovery.rebuild import rebuild_output
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.db.tables.base import RunRow
from desist.db.tables.tables import Tables
from desist.db.writer import Writer
from desist.exceptions import StoreError, UnreadableError
from desist.run.storage.values import RunQuery, StoredRun

__all__ = ["RunTable"]

log = logging.getLogger("desist.db")


class RunTable:
    """The part of a store that reads runs.

    Parameters:
        backend, writer: the storage, and its writer.
        live: the live runs of the store. Their outputs are taken from memory.
        unwritten: the ends that could not be stored yet.
    """

    def __init__(self, backend: StorageBackend, writer: Writer, live: LiveRuns, unwritten: UnwrittenEnds) -> None:
        self._backend, self._writer, self._live, self._unwritten = backend, writer, live, unwritten

    def unwritten_end(self, run_id: str) -> StoredRun | None:
        """Return a run that has ended in this process and whose end could not be stored yet."""
        return self._unwritten.get(run_id)

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run; if it is live in this process, with its present output."""
        live = self._live_run(run_id)
        if live is not None:
            return live
        with self._backend.reading() as tables:
            row = tables.runs.get(run_id)
            if row is None:
                return None
            found = self._loaded(tables, row)
        return found or self._end_and_load(row)

    def _loaded(self, tables: Tables, row: RunRow) -> StoredRun | None:
        """Return a run from its row; None if it is an orphan, which must be ended first."""
        if row.is_final or (row.status == PAUSED and row.cancel is None):
            return stored_of(row, with_answers(tables, row, with_children(tables, row)))
        live = self._live_run(row.run_id)
        if live is not None:
            return live
        if (orphan_reason(row, tables) is not None and not is_resumable(row)) or is_over(row, tables):
            return None
        output = rebuild_output(row, tables.parts.of_run(row.run_id))
        return stored_of(row, output, output.status)

    def _live_run(self, run_id: str) -> StoredRun | None:
        """Return a run that is live here, as it is now, or that has ended here and whose end is not stored yet."""
        live: Any = self._live.get(run_id)
        if live is not None:
            run: StoredRun = live.snapshot()
            return run
        return self._unwritten.get(run_id) if registry.get(run_id) is None else None

    def _end_and_load(self, row: RunRow) -> StoredRun | None:
        """End an orphan and its children; return the run as it is then."""
        try:
            self._writer.put(lambda tables: end_orphans(tables, row.root_run_id)).result()
        except StoreError as error:  # the end can't be stored now; return it anyway
            log.warning("the end of run %s, whose process is gone, can't be stored: %s", row.run_id, error)
        with self._backend.reading() as tables:
            again = tables.runs.get(row.run_id)
            if again is None:
                return None
            if again.is_final:
                return stored_of(again, with_children(tables, again))
            reason = orphan_reason(again, tables)
            if reason is None or is_resumable(again):  # its process has sent a heartbeat meanwhile
                output = rebuild_output(again, tables.parts.of_run(again.run_id))
                return stored_of(again, output, output.status)
            output = final_output(again, tables, reason, again.cancel)
        return stored_of(again, output, output.status)

    def delete_run(self, run_id: str) -> bool:
        """Delete a run; return whether it existed."""
        self._unwritten.forget(lambda run: run.run_id == run_id)
        gone: Future[bool] = self._writer.put(lambda tables: tables.runs.delete(run_id))
        return gone.result()  # ends in time: the writer bounds it

    def session_runs(
        self,
        session_id: str,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        limit: int | None = None,
        ended_only: bool = True,
    ) -> list[StoredRun]:
        """Return the last `limit` runs of a session, the oldest first; orphans are ended first."""
        self._end_orphans(session_id, kind, owner_id)
        with self._backend.reading() as tables:
            rows = tables.runs.of_session(session_id, kind, owner_id, limit, "ended" if ended_only else "all")
            found = [self._readable(tables, row) for row in rows]
        runs = [run for run in found if run is not None]
        if not ended_only:
            known = {run.run_id for run in runs}
            runs += [run for run in self._starting(session_id, kind, owner_id) if run.run_id not in known]
        return runs if limit is None else runs[max(0, len(runs) - limit) :]

    def _readable(self, tables: Tables, row: RunRow) -> StoredRun | None:
        """Return a run of a session. A run that can't be decoded is logged and left out."""
        try:
            return self._loaded(tables, row)
        except StoreError as error:
            log.error("%s", error)
            return None

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the matching runs, live ones too, the newest first; orphans are ended first."""
        with self._backend.reading() as tables:
            found = [(row, _listed(row, partial(self._loaded, tables, row))) for row in tables.runs.matching(query)]
        stored = [run or _listed(row, partial(self._end_and_load, row)) for row, run in found]
        return query.newest(run for run in (*self._live.snapshots(), *stored) if run is not None)

    def _starting(self, session_id: str, kind: str | None, owner_id: str | None) -> list[StoredRun]:
        """Return the live runs of a session: their starts may not be stored yet."""
        fitting = [
            run
            for run in self._live.snapshots()
            if run.session_id == session_id and kind in (None, run.kind) and owner_id in (None, run.owner_id)
        ]
        return sorted(fitting, key=lambda run: run.created_at)

    def _end_orphans(self, session_id: str, kind: str | None, owner_id: str | None) -> None:
        with self._backend.reading() as tables:
            rows = tables.runs.of_session(session_id, kind, owner_id, None, "open")
            dead = [row for row in rows if orphan_reason(row, tables) is not None or is_over(row, tables)]
        for row in dead:
            self._end_and_load(row)

    # -- ids that clients choose

    def reserve_run(self, run: StoredRun) -> bool:
        """Store a run that is about to start here, if there is none with its id. Blocks."""
        unregistered_runs.add_starting(run.run_id)  # first: a concurrent read must not take the run for an orphan
        try:
            reserved = self._writer.put(lambda tables: reserve_run(tables, run)).result()
        except StoreError:  # the run may still be written: the next job undoes that
            self.end_reservation(run.run_id)
            raise
        if not reserved:
            unregistered_runs.remove_starting(run.run_id)
        return reserved

    def end_reservation(self, run_id: str) -> None:
        """End a reservation: if the run is not live here, its start has failed, and it is deleted."""
        unregistered_runs.remove_starting(run_id)
        if registry.get(run_id) is None:
            self._writer.put(lambda tables: drop_reservation(tables, run_id))


def _listed(row: RunRow, load: Callable[[], StoredRun | None]) -> StoredRun | None:
    """Return a run of a list. A run that can't be decoded is in the list with its status and the reason."""
    try:
        return load()
    except UnreadableError as error:
        return stored_of(row, unreadable(row, error))
