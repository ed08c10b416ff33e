"""Giving an end to runs that will never have one by themselves: which they are, and what is written.

Called by the store when a run without an end is looked at, and by whoever cancelled one that doesn't answer. A run that
was cancelled ends cancelled, whatever became of its process; any other one is an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from desist.cancel.registry import registry
from desist.db.events.rows import event_of, next_owner_index, rows_of, terminal_event
from desist.db.process.identity import is_dead, is_running, starting_runs, this_process, unwritten
from desist.db.process.lease_observer import leases
from desist.db.records.codec import encode
from desist.db.recovery.partial_text import Told, events_of_stream
from desist.db.recovery.rebuild import rebuild_cancelled, rebuild_crashed, unreadable
from desist.db.recovery.terminal_event import settle
from desist.db.tables.base import QUEUED, RunRow, SharedTables, Tables
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus

__all__ = [
    "MAX_ATTEMPTS",
    "PAUSED",
    "end_orphans",
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
#: How many times a run is begun before a crash ends it for good: it may be what its process dies of.
MAX_ATTEMPTS = 5
#: A run that is to be ended: why, and the request that it was cancelled by.
_EndingRun = tuple[RunRow, str, str | None]
#: What the events of a run say of where it stands.
_PLACE = {"parent_run_id", "parent_step_id", "workflow_id", "workflow_name", "workflow_run_id", "step_id"}
_PLACE |= {"step_name", "step_index", "nested_depth"}
_LOST = "the end of this run could not be recorded"
_LEASE_EXPIRED = "the process of this run hasn't been heard of for too long"


def orphan_reason(row: RunRow, tables: Tables) -> str | None:
    """Return why a run without an end will never have one ("": its process is gone); None if it may."""
    if row.status == PAUSED and row.cancel is None:  # it waits for somebody, and needs no process
        return None
    if row.process == QUEUED:  # so does one that waits for a worker; cancelled, it has nobody to stop
        return None if row.cancel is None else ""
    if row.process == this_process():
        lives = registry.get(row.run_id) is not None or row.run_id in starting_runs or row.run_id in unwritten
        return None if lives else _LOST
    if is_dead(row.process, everywhere=tables.everywhere):
        return ""
    owner = tables.owner(row.process or "")
    if owner is None or not leases.is_over(row.process or "", owner[1], tables.now()):
        return None
    # A process that is seen at work on this machine isn't lost, late as its heartbeats may be.
    return _LEASE_EXPIRED if tables.everywhere or not is_running(row.process) else None


def end_orphans(tables: Tables, root_run_id: str) -> None:
    """End all runs of a tree that will never end by themselves. In one transaction: looked at anew, then written."""
    rows = tables.open_runs(root_run_id)
    doomed: list[_EndingRun] = []
    for row in rows:
        reason, request = orphan_reason(row, tables), _request_for(row, rows)
        ends = reason is not None and (request is not None or not is_resumable(row))
        if ends or is_over(row, tables):
            doomed.append((row, reason or "", request))
    _end_all(tables, doomed)


def is_over(row: RunRow, tables: Tables) -> bool:
    """Whether a run without an end has a terminal event, and no process that is about to write its end.

    Versions that stored the two apart left such runs. What was told is the truth: they get their ends from it.
    """
    return tables.terminal_event(row.run_id) is not None and not is_live(row, tables)


def is_live(row: RunRow, tables: Tables) -> bool:
    """Whether a process says that it lives, and works on this run."""
    if row.process == this_process():
        return orphan_reason(row, tables) is None
    return is_live_elsewhere(row, tables)


def is_live_elsewhere(row: RunRow, tables: Tables) -> bool:
    """Whether a process other than this one says that it lives, and works on this run."""
    if row.process == this_process() or row.status == PAUSED:
        return False
    return tables.owner(row.process or "") is not None and orphan_reason(row, tables) is None


def is_resumable(row: RunRow) -> bool:
    """Whether a run whose process has died waits for its workflow to go on with it, and isn't ended by a look."""
    return bool(row.resumable) and row.cancel is None and row.epoch <= MAX_ATTEMPTS


def find_orphans(tables: SharedTables, kind: str | None = None, owner_id: str | None = None) -> list[RunRow]:
    """Return the open runs whose process has died, without their outputs; only those of a kind, of a workflow."""
    rows = [row for row in tables.open_anywhere() if kind in (None, row.kind) and owner_id in (None, row.owner_id)]
    known: dict[tuple[str | None, bool, bool], bool] = {}  # what `orphan_reason` looks at, in rows of other processes
    found = []
    for row in rows:
        key = (row.process, row.status == PAUSED, row.cancel is None)
        if key not in known:
            known[key] = row.process != this_process() and orphan_reason(row, tables) is not None
        if known[key]:
            found.append(row)
    return found


def fail_run(tables: Tables, run_id: str, message: str) -> None:
    """End a run with which its workflow can't go on."""
    row = tables.get_run(run_id)
    if row is not None and not row.is_final:
        _end_all(tables, [(row, message, row.cancel)])


def end_unresponsive(tables: Tables, root_run_id: str) -> None:
    """End the cancelled runs of a tree, whose process doesn't answer. Whatever that still writes is refused."""
    rows = tables.open_runs(root_run_id)
    asked = [(row, _request_for(row, rows)) for row in rows]
    _end_all(tables, [(row, "", request) for row, request in asked if request is not None])


def final_output(row: RunRow, tables: Tables, reason: str, request: str | None) -> Any:
    """Return the output of a run that ends like this."""
    parts, told = tables.parts(row.run_id), events_of_stream(tables, row)
    return (
        rebuild_crashed(row, parts, told, reason or None)
        if request is None
        else rebuild_cancelled(row, parts, request, told)
    )


def _end_all(tables: Tables, ending: Sequence[_EndingRun]) -> None:
    """End these runs, children first, and tell it in their streams."""
    above = {row.run_id: row.parent_run_id for row, _, _ in ending}
    ended: list[tuple[RunRow, Any]] = []
    for row, reason, request in sorted(ending, key=lambda one: -_depth(one[0].run_id, above)):
        terminal = tables.terminal_event(row.run_id)
        if terminal is not None:
            ended.append((row, settle(tables, row, terminal)))
            continue
        output, queued = _end_or_unreadable(row, tables, reason, request), row.process == QUEUED
        row.status, row.updated_at = output.status.value, time.time()
        row.epoch += 1
        told = events_of_stream(tables, row) if row.parent_run_id is None else _own(tables, row)
        tables.put_run(row)
        if told is not None:
            tables.put_last_events(rows_of(row.run_id, _closing(told, output, ended), row.epoch))
        ended.append((row, output))
        if queued:
            log.info("run %s was cancelled while it waited for a worker", row.run_id)
        else:
            log.warning("run %s: %s", row.run_id, output.error or "it was cancelled, and its process didn't answer")


def _end_or_unreadable(row: RunRow, tables: Tables, reason: str, request: str | None) -> Any:
    """Write into the record how a run ends, and return that. One that can't be read ends, too, and stays as it is."""
    try:
        output = final_output(row, tables, reason, request)
    except StoreError as error:
        log.error("run %s is ended as it is: %s", row.run_id, error, extra={"run_id": row.run_id})
        return unreadable(row, request, str(error))
    row.output = encode(output)
    return output


def _depth(run_id: str | None, above: dict[str, str | None]) -> int:
    return 0 if run_id not in above else 1 + _depth(above[run_id or ""], above)


def _own(tables: Tables, row: RunRow) -> list[Told] | None:
    """Return what a child has told in a stream of its own; None if it tells in that of a run above it."""
    return events_of_stream(tables, row) if tables.events(row.run_id, limit=1) else None


def _closing(events: Sequence[Told], output: Any, ended: Sequence[tuple[RunRow, Any]]) -> list[tuple[int, Any]]:
    """Return the last events of a stream: the ends of the runs that were heard in it, then its own."""
    open_runs: dict[str | None, dict[str, Any]] = {}
    for _, data in events:
        event = event_of(dict(data), None)
        if event.is_terminal:
            open_runs.pop(event.run_id, None)
        elif not event.is_content:  # of one whose text alone is shown the end isn't, either
            open_runs.setdefault(event.run_id, data)
    closing = []
    for row, made in ended:
        if row.run_id in open_runs:
            last = terminal_event(made)
            for name in _PLACE & vars(last).keys() & open_runs[row.run_id].keys():
                setattr(last, name, open_runs[row.run_id][name])
            closing.append(last)
    first = next_owner_index(events[-1][0] if events else None)
    return list(enumerate([*closing, terminal_event(output)], first))


def _request_for(row: RunRow, rows: list[RunRow]) -> str | None:
    """Return the request that a run was cancelled by: its own, or that of a run above it."""
    above = {known.run_id: known for known in rows}
    at: RunRow | None = row
    while at is not None and at.cancel is None:
        at = above.get(at.parent_run_id or "")
    return at.cancel if at is not None else None
