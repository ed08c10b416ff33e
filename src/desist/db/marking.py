"""Giving an end to runs that will never have one by themselves: which they are, and what is written.

Called by the store when a run without an end is looked at, and by whoever cancelled one that doesn't answer. A run that
was cancelled ends cancelled, whatever became of its process; any other one is an error.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from desist.cancel.registry import registry
from desist.db.codec import encode
from desist.db.crash import cancelled, died
from desist.db.owner import is_gone, this_process
from desist.db.tables import QUEUED, RunRow, SharedTables, Tables
from desist.run.base import RunStatus

__all__ = ["PAUSED", "RESUMES", "end_of", "give_up", "lost", "mark", "may_go_on", "reason_of", "take"]

log = logging.getLogger("desist.db")
PAUSED = RunStatus.paused.value
#: How many times a run is begun before a crash ends it for good: it may be what its process dies of.
RESUMES = 5
_LOST = "the end of this run could not be recorded"
_SILENT = "the process of this run hasn't been heard of for too long"


def reason_of(row: RunRow, tables: Tables) -> str | None:
    """Return why a run without an end will never have one ("": its process is gone); None if it may."""
    if row.status == PAUSED and row.cancel is None:  # it waits for somebody, and needs no process
        return None
    if row.process == QUEUED:  # so does one that waits for a worker; cancelled, it has nobody to stop
        return None if row.cancel is None else ""
    if row.process == this_process():
        return None if registry.get(row.run_id) is not None else _LOST
    if is_gone(row.process, everywhere=tables.everywhere):
        return ""
    owner = tables.owner(row.process or "")
    return _SILENT if owner is not None and owner[1] < tables.now() else None


def mark(tables: Tables, root_run_id: str) -> None:
    """End all runs of a tree that will never end by themselves. In one transaction: looked at anew, then written."""
    rows = tables.open_runs(root_run_id)
    for row in rows:
        reason, request = reason_of(row, tables), _request_for(row, rows)
        if reason is not None and (request is not None or not may_go_on(row)):
            _end(tables, row, reason, request)


def may_go_on(row: RunRow) -> bool:
    """Whether a run whose process has died waits for its workflow to go on with it, and isn't ended by a look."""
    return bool(row.resumable) and row.cancel is None and row.epoch <= RESUMES


def lost(tables: SharedTables, kind: str | None = None, owner_id: str | None = None) -> list[RunRow]:
    """Return the open runs whose process has died, without their outputs; only those of a kind, of a workflow."""
    rows = [row for row in tables.open_anywhere() if kind in (None, row.kind) and owner_id in (None, row.owner_id)]
    known: dict[tuple[str | None, bool, bool], bool] = {}  # what `reason_of` looks at, in rows of other processes
    found = []
    for row in rows:
        key = (row.process, row.status == PAUSED, row.cancel is None)
        if key not in known:
            known[key] = row.process != this_process() and reason_of(row, tables) is not None
        if known[key]:
            found.append(row)
    return found


def give_up(tables: Tables, run_id: str, words: str) -> None:
    """End a run with which its workflow can't go on."""
    row = tables.get_run(run_id)
    if row is not None and not row.is_final:
        _end(tables, row, words, row.cancel)


def take(tables: Tables, root_run_id: str) -> None:
    """End the cancelled runs of a tree, whose process doesn't answer. Whatever that still writes is refused."""
    rows = tables.open_runs(root_run_id)
    for row in rows:
        request = _request_for(row, rows)
        if request is not None:
            _end(tables, row, "", request)


def end_of(row: RunRow, tables: Tables, reason: str, request: str | None) -> Any:
    """Return the output of a run that ends like this."""
    parts = tables.parts(row.run_id)
    return died(row, parts, reason or None) if request is None else cancelled(row, parts, request)


def _end(tables: Tables, row: RunRow, reason: str, request: str | None) -> None:
    output = end_of(row, tables, reason, request)
    queued = row.process == QUEUED
    row.status, row.updated_at, row.output, row.epoch = output.status.value, time.time(), encode(output), row.epoch + 1
    tables.put_run(row)
    if queued:
        log.info("run %s was cancelled while it waited for a worker", row.run_id)
    else:
        log.warning("run %s: %s", row.run_id, output.error or "it was cancelled, and its process didn't answer")


def _request_for(row: RunRow, rows: list[RunRow]) -> str | None:
    """Return the request that a run was cancelled by: its own, or that of a run above it."""
    above = {known.run_id: known for known in rows}
    at: RunRow | None = row
    while at is not None and at.cancel is None:
        at = above.get(at.parent_run_id or "")
    return at.cancel if at is not None else None
