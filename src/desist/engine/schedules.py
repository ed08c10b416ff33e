"""Submits the runs of schedules when their time has come. Called by the thread of a worker.

The id of such a run has the name of its schedule and its time, so several workers, or one after a crash, submit it
once. Times that pass while no worker is there are made up for by one run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from desist.exceptions import DesistError, RunIdInUseError
from desist.workflow.schedule import next_time

if TYPE_CHECKING:
    from desist.db.store.shared_table_store import SharedTableStore
    from desist.db.tables.base import ScheduleRow
    from desist.workflow.workflow import Workflow

__all__ = ["Schedules"]

log = logging.getLogger("desist.engine")


class Schedules:
    """The schedules of a worker's workflows."""

    def __init__(self, store: SharedTableStore, workflows: Mapping[str, Workflow]) -> None:
        self._store, self._workflows = store, workflows

    def submit_due(self) -> None:
        """Submit what is due."""
        for row in self._due(list(self._workflows)):
            self._submit(row)
            latest = max(row.next_at, time.time())  # what was missed is made up for by one run
            self._store.workers.advance_schedule(row, replace(row, next_at=next_time(row.cron, row.timezone, latest)))

    def _due(self, owner_ids: Sequence[str]) -> list[ScheduleRow]:
        return self._store.workers.due_schedules(owner_ids)

    def _submit(self, row: ScheduleRow) -> None:
        request = msgspec.json.decode(row.request)
        at = datetime.fromtimestamp(row.next_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        run_id = f"{row.name}@{at}"
        try:
            self._workflows[row.owner_id].submit(request["input"], run_id=run_id, **request["options"])
        except RunIdInUseError:
            log.debug("run %s was submitted by another worker", run_id)
        except DesistError as error:  # the workflow has changed since: the next time may be better
            log.error("schedule %r can't submit its run of %s: %s", row.name, at, error)
