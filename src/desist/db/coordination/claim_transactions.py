"""The transaction in which a worker claims runs: as many as it has places for, of its workflows in turn.

Called in the writer's thread, under the rules of `transactions`. Claims of several workers never wait for each other,
except to count the live runs of a workflow that has a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from desist.db.coordination.queue_transactions import take_queued
from desist.db.process.identity import this_process
from desist.db.records.codec import decode_run
from desist.db.records.rows import stored_of
from desist.db.recovery.orphans import fail_run
from desist.db.tables.base import LimitRow, QueuedRow, RunRow
from desist.db.tables.sql import SqlTables
from desist.exceptions import StoreError
from desist.run.storage.values import StoredRun

__all__ = ["Claim", "ClaimedRow", "claim", "claim_or_wait", "per_key"]


@dataclass(slots=True)
class ClaimedRow:
    """A run that this process has claimed."""

    run: StoredRun
    epoch: int
    queued: QueuedRow
    new_session: bool = False  #: there is no session with the id of its session


@dataclass(slots=True)
class Claim:
    """What a worker has got."""

    runs: list[ClaimedRow] = field(default_factory=list)
    wait: float | None = None  #: seconds until a scheduled run is due, if the worker has places left
    hungry: bool = False  #: the worker is notified of the next run
    notified: list[str] = field(default_factory=list)  #: addresses of the workers to notify


def claim(tables: SqlTables, owner_ids: Sequence[str], places: int, ended: Sequence[str], *, due: bool) -> Claim:
    """Claim runs of these workflows, the first ones first.

    Parameters:
        ended: runs of this worker that have ended, and make room for others.
        due: look for scheduled runs whose time has come.
    """
    limits = tables.limits.all()
    keys = per_key(limits)
    ready = tables.queue.remove(ended, keys) if ended else []
    ready += tables.queue.make_due(keys) if due else []
    found = Claim(_claim(tables, owner_ids, places, limits))
    found.wait = _seconds_to_next(tables) if len(found.runs) < places else None
    found.notified = tables.workers.notify_hungry(ready)
    return found


def claim_or_wait(tables: SqlTables, owner_ids: Sequence[str], places: int) -> Claim:
    """Claim runs. If there are not enough, let this worker be notified of the next one: none is missed in between."""
    tables.workers.set_hungry(this_process(), True)
    found = Claim(_claim(tables, owner_ids, places, tables.limits.all()), hungry=True)
    found.wait = _seconds_to_next(tables)
    return found


def _seconds_to_next(tables: SqlTables) -> float | None:
    next_due = tables.queue.next_due()
    return max(0.0, next_due - tables.now()) if next_due is not None else None


def per_key(limits: dict[str, LimitRow]) -> dict[str, int]:
    """Return the maximum of live runs with one key, by workflow; 1 for the others."""
    return {owner: row.per_key for owner, row in limits.items() if row.per_key is not None}


def _claim(tables: SqlTables, owner_ids: Sequence[str], places: int, limits: dict[str, LimitRow]) -> list[ClaimedRow]:
    allowed = _allowed(tables, owner_ids, places, limits)
    found: list[tuple[RunRow, QueuedRow]] = []
    share = -(-places // len(owner_ids))
    for quota in (share, places) if share < places else (places,):  # all workflows in turn, then what is left
        for owner in owner_ids:
            count = min(quota, allowed[owner], places - len(found))
            if count <= 0:
                continue
            rows = tables.queue.claimable(owner, count)
            if rows:
                tables.queue.mark_claimed([row.run_id for row, _ in rows])
                found += rows
            allowed[owner] = 0 if len(rows) < count else allowed[owner] - len(rows)
    fresh = [(row, queued) for row, queued in found if row.epoch == 0]
    if fresh:
        tables.runs.claim([row for row, _ in fresh], this_process())
    ids = [row.session_id for row, _ in fresh if row.session_id is not None]
    known = tables.sessions.existing(ids) if ids else set()
    claimed = [_open(tables, row, queued, row.session_id not in known) for row, queued in fresh]
    claimed += [_take(tables, row, queued) for row, queued in found if row.epoch > 0 and row.process != this_process()]
    return [one for one in claimed if one is not None]


def _allowed(tables: SqlTables, owner_ids: Sequence[str], places: int, limits: dict[str, LimitRow]) -> dict[str, int]:
    """Return how many runs of each workflow may be claimed. Workflows with a limit are locked, in one order."""
    allowed = dict.fromkeys(owner_ids, places)
    for owner in sorted(owner_ids):
        limit = limits.get(owner)
        if limit is None:
            continue
        if limit.paused:
            allowed[owner] = 0
        elif limit.runs is not None:
            tables.limits.lock(owner)
            allowed[owner] = limit.runs - tables.queue.claimed_count(owner)
    return allowed


def _open(tables: SqlTables, row: RunRow, queued: QueuedRow, new_session: bool) -> ClaimedRow | None:
    """Return a run that begins: it has no children, no checkpoints and no events."""
    try:
        return ClaimedRow(stored_of(row, decode_run(row)), row.epoch, queued, new_session)
    except StoreError as error:
        fail_run(tables, row.run_id, str(error))
        return None


def _take(tables: SqlTables, row: RunRow, queued: QueuedRow) -> ClaimedRow | None:
    """Return a run that was requeued, with its finished work; None if it may not go on, and was ended."""
    taken = take_queued(tables, row.run_id)
    return ClaimedRow(taken[1], taken[0].epoch, queued) if taken is not None else None
