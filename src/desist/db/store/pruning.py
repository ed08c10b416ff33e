"""Deletes what is old: the events of ended runs, and the runs themselves on request.

Some runs in each transaction, so that other jobs of the writer don't wait for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from desist.db.tables.sql import SqlTables

__all__ = ["PruneResult", "prune"]

#: The maximum of runs in one transaction.
MANY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """How much was deleted."""

    told: int = 0  #: runs whose events were deleted, except their last events
    runs: int = 0  #: runs that were deleted, children included


def prune(write: Callable[[Callable[[SqlTables], int]], Future[int]], older_than: float, *, runs: bool) -> PruneResult:
    """Prune, transaction by transaction. Waits for the disk.

    Parameters:
        write: gives work to the writer.
        older_than: seconds since the end of a run.
        runs: delete the runs, too.
    """
    before = time.time() - older_than
    gone = _all(write, lambda tables: _some(tables, before, "runs")) if runs else 0
    return PruneResult(told=_all(write, lambda tables: _some(tables, before, "events")), runs=gone)


def _all(write: Callable[[Callable[[SqlTables], int]], Future[int]], some: Callable[[SqlTables], int]) -> int:
    count = 0
    while found := write(some).result():  # ends in time: the writer bounds it
        count += found
    return count


def _some(tables: SqlTables, before: float, what: Literal["events", "runs"]) -> int:
    ids = tables.runs.prunable(before, what, MANY)
    if what == "events":
        if ids:
            tables.events.prune(ids)
        return len(ids)
    return sum(_delete_tree(tables, run_id) for run_id in ids)


def _delete_tree(tables: Any, run_id: str) -> int:
    below = sum(_delete_tree(tables, child.run_id) for child in tables.runs.children(run_id))
    return below + int(tables.runs.delete(run_id))
