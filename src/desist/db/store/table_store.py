"""The store on tables: what `desist.run.storage.store.RunStore` asks for, over whatever holds the rows.

Writes go through one writer; looks are made in the caller's thread. A run without an end whose process is gone is
given one by whoever looks at it first (guarantee 12): rebuilt from its parts, sealed, `ERROR`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from desist.cancel.registry import registry
from desist.db.coordination.claims import claim_session, drop_reservation, reserve_run
from desist.db.process.identity import starting_runs, this_process
from desist.db.records.codec import encode, encode_part, unreadable
from desist.db.records.rows import put_run, stored_of, update_session, with_children
from desist.db.recovery.orphans import PAUSED, end_orphans, final_output, is_over, is_resumable, orphan_reason
from desist.db.recovery.rebuild import rebuild_output
from desist.db.store.unwritten_ends import UnwrittenEnds
from desist.db.tables.base import RunRow, StorageBackend, Tables
from desist.db.writer import Writer
from desist.exceptions import StoreError, UnreadableError
from desist.run.storage.values import PartKind, RunQuery, SessionUpdate, StoredRun, StoredSession

__all__ = ["TableStore"]

log = logging.getLogger("desist.db")

#: Seconds that closing waits at least for what is left to be written.
CLOSING = 2.0


class TableStore:
    """Runs and sessions in tables.

    Parameters:
        place: where the tables are.
        patience: seconds after which whoever waits for a write is told that it isn't done.
    """

    blocking = True
    shared = False

    def __init__(self, backend: StorageBackend, write_timeout: float) -> None:
        self.place, self.write_timeout = backend, write_timeout
        self.writer = Writer(backend, write_timeout)
        self._lock = threading.Lock()
        self._dropped = 0
        self.unwritten = UnwrittenEnds(self.writer, self.save_run)

    # -- runs

    def save_run(self, run: StoredRun) -> Future[None]:
        """Record a run, and what it changes in its session, in one transaction."""
        process = run.process or this_process()
        if not run.status.is_final:
            text = encode(run.output)
            return self.writer.put(lambda tables: put_run(tables, run, process, text))
        # Nothing changes it any more: its text is made in the writer's thread.
        done = self.writer.put(lambda tables: put_run(tables, run, process, None))
        done.add_done_callback(lambda ended: self.unwritten.settle(run, ended.exception()))
        return done

    def unwritten_end(self, run_id: str) -> StoredRun | None:
        """Return a run that has ended in this process, and whose end could not be written yet."""
        return self.unwritten.get(run_id)

    def add_part(self, run_id: str, kind: PartKind, value: Any, at: Mapping[str, Any] | None = None) -> None:
        """Record what has finished while the run goes on."""
        row = encode_part(run_id, kind, value, at)
        if not self.writer.put_droppable(lambda tables: tables.add_part(row)):
            self._log_dropped()

    def _log_dropped(self) -> None:
        with self._lock:
            self._dropped += 1
            count = self._dropped
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, ...
            log.error("%s is too slow: %d finished parts of runs were not stored", self.place.name, count)

    def load_run(self, run_id: str) -> StoredRun | None:
        """Return a run; of one that is live in this process, its output as it is now."""
        live = self._live_run(run_id)
        if live is not None:
            return live
        with self.place.reading() as tables:
            row = tables.get_run(run_id)
            if row is None:
                return None
            found = self._loaded(tables, row)
        return found or self._end_and_load(row)

    def _loaded(self, tables: Tables, row: RunRow) -> StoredRun | None:
        """Return a run from its row; None if it must be marked first."""
        if row.is_final or (row.status == PAUSED and row.cancel is None):
            return stored_of(row, with_children(tables, row))
        live = self._live_run(row.run_id)
        if live is not None:
            return live
        if (orphan_reason(row, tables) is not None and not is_resumable(row)) or is_over(row, tables):
            return None
        output = rebuild_output(row, tables.parts(row.run_id))
        return stored_of(row, output, output.status)

    def _live_run(self, run_id: str) -> StoredRun | None:
        """Return a run that is live in this process and recorded here, as it is now, or whose end is still owed."""
        live: Any = registry.get(run_id)
        if live is None:
            return self.unwritten.get(run_id)
        if live.store is not self:
            return None
        run: StoredRun = live.snapshot()
        return run

    def _end_and_load(self, row: RunRow) -> StoredRun | None:
        """Give a run an end whose process is gone, and those that it had started; return it as it is then."""
        try:
            self.writer.put(lambda tables: end_orphans(tables, row.root_run_id)).result()
        except StoreError as error:  # it can't be written: it is told all the same
            log.warning("run %s has no end, and can't be given one: %s", row.run_id, error)
        with self.place.reading() as tables:
            again = tables.get_run(row.run_id)
            if again is None:
                return None
            if again.is_final:
                return stored_of(again, with_children(tables, again))
            reason = orphan_reason(again, tables)
            if reason is None or is_resumable(again):  # its process has been heard of after all
                output = rebuild_output(again, tables.parts(again.run_id))
                return stored_of(again, output, output.status)
            output = final_output(again, tables, reason, again.cancel)
        return stored_of(again, output, output.status)

    def delete_run(self, run_id: str) -> bool:
        """Forget a run; return whether it was there."""
        self.unwritten.forget(lambda run: run.run_id == run_id)
        gone: Future[bool] = self.writer.put(lambda tables: tables.delete_run(run_id))
        return gone.result()  # the writer bounds it

    def session_runs(
        self,
        session_id: str,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        limit: int | None = None,
        ended_only: bool = True,
    ) -> list[StoredRun]:
        """Return the last `limit` runs of a session, the oldest first; runs of dead processes are ended first."""
        self._end_orphans(session_id, kind, owner_id)
        with self.place.reading() as tables:
            rows = tables.session_runs(session_id, kind, owner_id, limit, "ended" if ended_only else "all")
            found = [self._readable(tables, row) for row in rows]
        runs = [run for run in found if run is not None]
        if not ended_only:
            known = {run.run_id for run in runs}
            runs += [run for run in self._starting(session_id, kind, owner_id) if run.run_id not in known]
        return runs if limit is None else runs[max(0, len(runs) - limit) :]

    def _readable(self, tables: Tables, row: RunRow) -> StoredRun | None:
        """Return a run of a session. One that can't be read is left out, and said: the others are of use."""
        try:
            return self._loaded(tables, row)
        except StoreError as error:
            log.error("%s", error)
            return None

    def list_runs(self, query: RunQuery) -> list[StoredRun]:
        """Return the runs that are meant, live ones too, the newest first; runs of dead processes are ended first."""
        with self.place.reading() as tables:
            rows = [(row, _listed(row, lambda row=row: self._loaded(tables, row))) for row in tables.list_runs(query)]  # type: ignore[misc]
        stored = [found or _listed(row, lambda row=row: self._end_and_load(row)) for row, found in rows]  # type: ignore[misc]
        live = [self._live_run(known.run_id) for known in registry.live()]
        return query.newest(run for run in (*live, *stored) if run is not None)

    def _starting(self, session_id: str, kind: str | None, owner_id: str | None) -> list[StoredRun]:
        """Return the live runs of a session: the record of a start may still be on its way to the disk."""
        live = [run for known in registry.live() if (run := self._live_run(known.run_id)) is not None]
        fitting = [
            run
            for run in live
            if run.session_id == session_id and kind in (None, run.kind) and owner_id in (None, run.owner_id)
        ]
        return sorted(fitting, key=lambda run: run.created_at)

    def _end_orphans(self, session_id: str, kind: str | None, owner_id: str | None) -> None:
        with self.place.reading() as tables:
            rows = tables.session_runs(session_id, kind, owner_id, None, "open")
            dead = [row for row in rows if orphan_reason(row, tables) is not None or is_over(row, tables)]
        for row in dead:
            self._end_and_load(row)

    # -- sessions

    def load_session(self, session_id: str, kind: str) -> StoredSession | None:
        """Return a session, or None."""
        with self.place.reading() as tables:
            found: StoredSession | None = tables.get_session(session_id, kind)
            return found

    def save_session(self, session: StoredSession) -> Future[None]:
        """Record a session as it is given."""
        return self.writer.put(lambda tables: tables.put_session(session))

    def update_session(self, change: SessionUpdate) -> Future[None]:
        """Apply a change to the session as it is stored then."""
        return self.writer.put(lambda tables: update_session(tables, change))

    def delete_session(self, session_id: str, kind: str | None = None) -> bool:
        """Forget a session and its runs; return whether anything was there."""
        self.unwritten.forget(lambda run: run.session_id == session_id and kind in (None, run.kind))
        gone: Future[bool] = self.writer.put(lambda tables: tables.delete_session(session_id, kind))
        return gone.result()

    def list_sessions(
        self,
        *,
        kind: str | None = None,
        owner_id: str | None = None,
        user_id: str | None = None,
        limit: int | None = None,
    ) -> list[StoredSession]:
        """Return the sessions that fit, the one that changed last first."""
        with self.place.reading() as tables:
            return list(tables.list_sessions(kind, owner_id, user_id, limit))

    # -- ids that clients choose

    def claim_session(self, session: StoredSession) -> set[str | None]:
        """Make a session for its user, if there is none; return the other users of its id. Blocks."""
        return self.writer.put(lambda tables: claim_session(tables, session)).result()

    def reserve_run(self, run: StoredRun) -> bool:
        """Record a run that is about to start here, if there is none with its id. Blocks."""
        starting_runs.add(run.run_id)  # first: whoever looks meanwhile must not take it for lost
        try:
            reserved = self.writer.put(lambda tables: reserve_run(tables, run)).result()
        except StoreError:  # it may yet be written: what comes after that undoes it
            self.end_reservation(run.run_id)
            raise
        if not reserved:
            starting_runs.discard(run.run_id)
        return reserved

    def end_reservation(self, run_id: str) -> None:
        """The reserved run is live here now; if it isn't, its start has failed and it is forgotten."""
        starting_runs.discard(run_id)
        if registry.get(run_id) is None:
            self.writer.put(lambda tables: drop_reservation(tables, run_id))

    # -- the end

    def flush(self) -> bool:
        """Wait until everything that was left to be written is written; return whether it is."""
        return self.writer.flush()

    def close(self) -> None:
        """Write what is left and let go of everything. Using it afterwards is a `StoreError`."""
        self.writer.close(max(self.write_timeout, CLOSING))
        self.unwritten.forget()
        self.place.close()


def _listed(row: RunRow, load: Callable[[], StoredRun | None]) -> StoredRun | None:
    """Return a run of a list. One that can't be read is there all the same, with its status, and says why."""
    try:
        return load()
    except UnreadableError as error:
        return stored_of(row, unreadable(row, error))
