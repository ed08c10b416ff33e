"""Giving an end to runs that will never have one by themselves: which they are, and what is written.

Called by the store when a run without an end is looked at.
"""

from __future__ import annotations

import logging
import time

from desist.cancel.registry import registry
from desist.db.codec import encode
from desist.db.crash import died
from desist.db.owner import is_gone, this_process
from desist.db.tables import RunRow, Tables
from desist.run.base import RunStatus

__all__ = ["PAUSED", "mark", "reason_of"]

log = logging.getLogger("desist.db")
PAUSED = RunStatus.paused.value
_LOST = "the end of this run could not be recorded"


def reason_of(row: RunRow) -> str | None:
    """Return why a run without an end will never have one ("": its process is gone); None if it may."""
    if row.status == PAUSED:  # it waits for somebody, and needs no process
        return None
    if row.process == this_process():
        return None if registry.get(row.run_id) is not None else _LOST
    return "" if is_gone(row.process) else None


def mark(tables: Tables, root_run_id: str) -> None:
    """End all runs of a tree that will never end by themselves. In one transaction: looked at anew, then written."""
    for row in tables.open_runs(root_run_id):
        reason = reason_of(row)
        if reason is None:
            continue
        output = died(row, tables.parts(row.run_id), reason or None)
        row.status, row.updated_at, row.output = RunStatus.error.value, time.time(), encode(output)
        tables.put_run(row)
        log.warning("run %s: %s", row.run_id, output.error)
