"""Cancels many runs of any process in one decision: one transaction stores the requests, those that follow end the runs
that no process works on.

A run whose request is stored is not claimed any more, so a crash between the two leaves only ends to be written, which
any process writes that looks at the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from desist.cancel.receipt import CancelReceipt
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.db.coordination.transactions import CancelOutcome, request_cancel
from desist.db.records.cancel_request import CancelRequestRow
from desist.db.recovery.orphans import end_orphans, end_unstarted
from desist.db.tables.base import QUEUED
from desist.run.storage.values import CancelRequest

if TYPE_CHECKING:
    from desist.db.backends.base import SharedBackend
    from desist.db.coordination.lease_keeper import LeaseKeeper
    from desist.db.store.claim_service import ClaimService
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["BulkCancel"]

#: The maximum of runs that one transaction ends.
BATCH = 500


class BulkCancel:
    """The part of `SharedTableStore` that cancels many runs. Called from any thread."""

    def __init__(self, backend: SharedBackend, writer: Writer, leases: LeaseKeeper, ownership: ClaimService) -> None:
        self._backend, self._writer, self._leases, self._ownership = backend, writer, leases, ownership

    def request(self, run_ids: Sequence[str], request: CancelRequest) -> list[CancelReceipt]:
        """Cancel runs; return a receipt for each. See `QueueStore.request_cancels`."""
        self._leases.start()
        decide = partial(_decide, run_ids=run_ids, request=request, listener=self._backend.address)
        answers = self._writer.put(decide).result()
        queued = [answer.run_id for answer in answers if answer.row is not None and answer.row.process == QUEUED]
        for start in range(0, len(queued), BATCH):
            self._writer.put(partial(_end, run_ids=queued[start : start + BATCH]))
        return [self._ownership.receipt_of(answer, request) for answer in answers]


def _decide(tables: SqlTables, *, run_ids: Sequence[str], request: CancelRequest, listener: str) -> list[CancelOutcome]:
    """Store the requests. Runs whose case is special are decided one by one, as a single request would be."""
    wanted = CancelRequestRow.of(request, listener)
    rows = {row.run_id: row for row in tables.runs.headers(sorted(set(run_ids)))}
    plain = {
        run_id
        for run_id, row in rows.items()
        if not row.is_final and row.cancel is None and row.parent_run_id is None and row.process is not None
    }
    tables.runs.set_cancels(sorted(plain), wanted.text_of())
    owners = {process: tables.owners.get(process) for process in {rows[run_id].process or "" for run_id in plain}}
    for owner in owners.values():
        if owner is not None:
            tables.tx.notify(owner[0])
    answers: list[CancelOutcome] = []
    for run_id in run_ids:
        row = rows.get(run_id)
        if row is not None and row.is_final:
            outcome = Outcome.already_cancelled if row.status == RunStatus.cancelled else Outcome.finished
            answers.append(CancelOutcome(outcome, run_id, row))
        elif run_id in plain:
            owner = owners[rows[run_id].process or ""]
            address = owner[0] if owner is not None else None
            answers.append(CancelOutcome(Outcome.accepted, run_id, rows[run_id], wanted, address))
        else:
            answers.append(request_cancel(tables, run_id, request, listener))
    return answers


def _end(tables: SqlTables, *, run_ids: Sequence[str]) -> None:
    end_unstarted(tables, run_ids)
    for row in tables.runs.headers(run_ids):
        if not row.is_final:  # it was requeued by a worker
            end_orphans(tables, row.root_run_id)
