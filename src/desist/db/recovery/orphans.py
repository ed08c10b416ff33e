"""Orphans: runs that will never end by themselves. Finds them, and ends them.

Called by the store when a live run is loaded or a database is opened, and for a run that does not respond to a cancel.
A run with a cancel request ends cancelled, whatever happened to its process; any other orphan ends with an error. Each
decision reads the rows again within its transaction, so deciding twice, or in two processes, changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from desist.cancel.registry import registry
from desist.db.events.rows import event_of, next_owner_index, rows_of, terminal_event
from desist.db.process.identity import is_dead, is_running, this_process
from desist.db.process.lease_observer import leases
from desist.db.process.unregistered_runs import unregistered_runs
from desist.db.records.codec import encode
from desist.db.recovery.partial_text import StoredEvent, events_of_stream
from desist.db.recovery.rebuild import rebuild_cancelled, rebuild_crashed, unreadable
from desist.db.recovery.terminal_event import settle
from desist.db.tables.base import QUEUED, EventRow, RunRow
from desist.db.tables.sql import SqlTables
from desist.db.tables.tables import Tables
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus

__all__ = [
    "MAX_ATTEMPTS",
    "PAUSED",
    "end_orphans",
    "end_unstarted",
    "end_paused_children",
    "end_unresponsive",
    "fail_run",
    "final_output",
    "find_orphans",
    "is_live_elsewhere",
    "is_over",
    "is_resumable",
    "orphan_reason",
]

log = logging.getLogger("desist.db")
PAUSED = RunStatus.paused.value
#: The number of crashes after which a run is not resumed any more: the run itself may crash its process.
MAX_ATTEMPTS = 5
#: A run that is to be ended, the reason, and its cancel request.
_EndingRun = tuple[RunRow, str, str | None]
#: The fields of an event with the position of its run.
_POSITION = {"parent_run_id", "parent_step_id", "workflow_id", "workflow_name", "workflow_run_id", "step_id"}
_POSITION |= {"step_name", "step_index", "nested_depth"}
_LOST = "the end of this run could not be stored"
_LEASE_EXPIRED = "the lease of the process of this run has expired"


def orphan_reason(row: RunRow, tables: Tables) -> str | None:
    """Return why a live run will never end ("": its process is gone), or None if it may end."""
    if row.status == PAUSED:  # it waits for an answer, and needs no process; if it is cancelled, no process will end it
        return None if row.cancel is None else ""
    if row.process == QUEUED:  # it waits for a worker; if it is cancelled, no process will end it
        return None if row.cancel is None else ""
    if row.process == this_process():
        lives = registry.get(row.run_id) is not None or row.run_id in unregistered_runs
        return None if lives else _LOST
    if is_dead(row.process, everywhere=tables.everywhere):
        return ""
    owner = tables.owners.get(row.process or "")
    if owner is None or not leases.is_over(row.process or "", owner[1], tables.now()):
        return None
    # A process that is running on this machine is not lost, however late its heartbeats are.
    return _LEASE_EXPIRED if tables.everywhere or not is_running(row.process) else None


def end_orphans(tables: Tables, root_run_id: str) -> None:
    """End the orphans of a tree. In one transaction, which reads the rows again."""
    rows = tables.runs.open_in_tree(root_run_id)
    doomed: list[_EndingRun] = []
    for row in rows:
        reason, request = orphan_reason(row, tables), _request_for(row, rows)
        if row.status == PAUSED and request is not None:  # a run above it was cancelled
            reason = ""
        ends = reason is not None and (request is not None or not is_resumable(row))
        if ends or is_over(row, tables):
            doomed.append((row, reason or "", request))
    _end_all(tables, doomed)


def end_paused_children(tables: Tables, root_run_id: str) -> None:
    """End the runs of a tree that wait for a human, because the run above them ends."""
    rows = tables.runs.open_in_tree(root_run_id)
    waiting = [row for row in rows if row.status == PAUSED and row.run_id != root_run_id]
    _end_all(tables, [(row, "the run that it was started in has ended", _request_for(row, rows)) for row in waiting])


def is_over(row: RunRow, tables: Tables) -> bool:
    """Return whether a live run has a terminal event, and no process that is about to store its end.

    Versions that stored the two in two transactions left such runs. The terminal event may have been delivered, so the
    run ends as that event says.
    """
    return tables.events.terminal(row.run_id) is not None and not is_live(row, tables)


def is_live(row: RunRow, tables: Tables) -> bool:
    """Return whether a process that is known to live works on this run."""
    if row.process == this_process():
        return orphan_reason(row, tables) is None
    return is_live_elsewhere(row, tables)


def is_live_elsewhere(row: RunRow, tables: Tables) -> bool:
    """Return whether a process other than this one is known to live, and works on this run."""
    if row.process == this_process() or row.status == PAUSED:
        return False
    return tables.owners.get(row.process or "") is not None and orphan_reason(row, tables) is None


def is_resumable(row: RunRow) -> bool:
    """Return whether a run waits for its workflow to resume it if its process has died."""
    return bool(row.resumable) and row.cancel is None and row.epoch <= MAX_ATTEMPTS


def find_orphans(tables: SqlTables, kind: str | None = None, owner_id: str | None = None) -> list[RunRow]:
    """Return the headers of the orphans, without those of this process; only those of a kind, or of a workflow."""
    rows = [row for row in tables.runs.live() if kind in (None, row.kind) and owner_id in (None, row.owner_id)]
    known: dict[tuple[str | None, bool, bool], bool] = {}  # by the fields of the row that `orphan_reason` uses
    found = []
    for row in rows:
        key = (row.process, row.status == PAUSED, row.cancel is None)
        if key not in known:
            known[key] = row.process != this_process() and orphan_reason(row, tables) is not None
        if known[key]:
            found.append(row)
    return found


def fail_run(tables: Tables, run_id: str, message: str) -> None:
    """End a run that its workflow can't resume."""
    row = tables.runs.get(run_id)
    if row is not None and not row.is_final:
        _end_all(tables, [(row, message, row.cancel)])


def end_unresponsive(tables: Tables, root_run_id: str) -> None:
    """End the cancelled runs of a tree whose process does not respond. Later writes of that process are refused."""
    rows = tables.runs.open_in_tree(root_run_id)
    asked = [(row, _request_for(row, rows)) for row in rows]
    _end_all(tables, [(row, "", request) for row, request in asked if request is not None])


def end_unstarted(tables: SqlTables, run_ids: Sequence[str]) -> None:
    """End those of these runs that were cancelled before a worker had them, in few statements. Others stay."""
    rows = [row for row in tables.runs.queued(run_ids) if row.cancel is not None]
    events: list[EventRow] = []
    for row in rows:
        try:
            output = rebuild_cancelled(row, [], row.cancel or "")
            row.output = encode(output)
        except StoreError as error:
            log.error("run %s ends without its output: %s", row.run_id, error, extra={"run_id": row.run_id})
            output = unreadable(row, row.cancel, str(error))
        row.status, row.updated_at, row.epoch = output.status.value, time.time(), row.epoch + 1
        events += rows_of(row.run_id, _closing([], output, []), row.epoch)
    tables.runs.put_new(rows)
    tables.events.add_last(events)
    owners = {row.owner_id or "" for row in rows}
    keys = {owner: tables.limits.per_key(owner) for owner in owners}
    tables.workers.notify_hungry(tables.queue.remove([row.run_id for row in rows], keys))


def final_output(row: RunRow, tables: Tables, reason: str, request: str | None) -> Any:
    """Return the output of a run that ends like this."""
    parts, events = tables.parts.of_run(row.run_id), events_of_stream(tables, row)
    if request is not None:
        return rebuild_cancelled(row, parts, request, events)
    return rebuild_crashed(row, parts, events, reason or None)


def _end_all(tables: Tables, ending: Sequence[_EndingRun]) -> None:
    """End these runs, children first, and store the last events of their streams."""
    above = {row.run_id: row.parent_run_id for row, _, _ in ending}
    ended: list[tuple[RunRow, Any]] = []
    for row, reason, request in sorted(ending, key=lambda one: -_depth(one[0].run_id, above)):
        terminal = tables.events.terminal(row.run_id)
        if terminal is not None:
            ended.append((row, settle(tables, row, terminal)))
            continue
        output, queued = _end_or_unreadable(row, tables, reason, request), row.process == QUEUED
        waited = row.status == PAUSED
        if waited:
            tables.requirements.close(row.run_id)
        row.status, row.updated_at = output.status.value, time.time()
        row.epoch += 1
        events = events_of_stream(tables, row) if row.parent_run_id is None else _own(tables, row)
        tables.runs.put(row)
        if events is not None:
            tables.events.add_last(rows_of(row.run_id, _closing(events, output, ended), row.epoch))
        ended.append((row, output))
        if queued:
            _dequeue(tables, row)
        if queued or waited:
            log.info("run %s was ended while it waited for a %s", row.run_id, "worker" if queued else "human")
        else:
            log.warning("run %s: %s", row.run_id, output.error or "ended as cancelled: its process did not respond")


def _dequeue(tables: Tables, row: RunRow) -> None:
    """Delete a run from the queue, and admit one that waits for its key. Only SQL databases have a queue."""
    if isinstance(tables, SqlTables):
        owner = row.owner_id or ""
        admitted = tables.queue.remove([row.run_id], {owner: tables.limits.per_key(owner)})
        tables.workers.notify_hungry(admitted)


def _end_or_unreadable(row: RunRow, tables: Tables, reason: str, request: str | None) -> Any:
    """Set the output of a row, and return it. The output of a run that can't be decoded stays as it is stored."""
    try:
        output = final_output(row, tables, reason, request)
    except StoreError as error:
        log.error("run %s ends without its output: %s", row.run_id, error, extra={"run_id": row.run_id})
        return unreadable(row, request, str(error))
    row.output = encode(output)
    return output


def _depth(run_id: str | None, above: dict[str, str | None]) -> int:
    return 0 if run_id not in above else 1 + _depth(above[run_id or ""], above)


def _own(tables: Tables, row: RunRow) -> list[StoredEvent] | None:
    """Return the events of a child that has a stream of its own; None if the stream of a run above has them."""
    return events_of_stream(tables, row) if tables.events.of_run(row.run_id, limit=1) else None


def _closing(events: Sequence[StoredEvent], output: Any, ended: Sequence[tuple[RunRow, Any]]) -> list[tuple[int, Any]]:
    """Return the last events of a stream: the ends of the live runs that have emitted into it, then its own."""
    open_runs: dict[str | None, dict[str, Any]] = {}
    for _, data in events:
        event = event_of(dict(data), None)
        if event.is_terminal:
            open_runs.pop(event.run_id, None)
        elif not event.is_content:  # a run that has emitted nothing but text gets no event for its end
            open_runs.setdefault(event.run_id, data)
    closing = []
    for row, made in ended:
        if row.run_id in open_runs:
            last = terminal_event(made)
            for name in _POSITION & vars(last).keys() & open_runs[row.run_id].keys():
                setattr(last, name, open_runs[row.run_id][name])
            closing.append(last)
    first = next_owner_index(events[-1][0] if events else None)
    return list(enumerate([*closing, terminal_event(output)], first))


def _request_for(row: RunRow, rows: list[RunRow]) -> str | None:
    """Return the cancel request of a run, or of the nearest run above it that has one."""
    above = {known.run_id: known for known in rows}
    at: RunRow | None = row
    while at is not None and at.cancel is None:
        at = above.get(at.parent_run_id or "")
    return at.cancel if at is not None else None
