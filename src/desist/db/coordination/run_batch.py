"""`RunBatch`: the claims and the ends of many runs of this process, in one transaction and a few statements.

Called in the writer's thread. `transactions` has the rules, which hold here for each run as if it were alone: the rows
of all runs are read, and so locked, first, in the order of their ids; then each run is decided; then all is written. A
transaction that fails is repeated run by run, so an exception here ends a transaction without harm to other runs. A run
that is refused before anything is written about it is only `Failed`.

A run that is claimed and ended in one transaction is written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from desist.cancel.status import RunStatus
from desist.db.coordination import transactions
from desist.db.process.identity import this_process
from desist.db.records.cancel_request import CancelRequestRow, decode_cancel_request
from desist.db.records.rows import row_of, update_session
from desist.db.recovery.orphans import end_paused_children
from desist.db.tables.base import PartRow, RunRow
from desist.db.tables.sql import SqlTables
from desist.db.writer import Failed
from desist.exceptions import LeaseLostError
from desist.run.storage.values import CancelRequest, StoredRun

if TYPE_CHECKING:
    from desist.db.coordination.lease_keeper import LeaseKeeper

__all__ = ["Claim", "End", "RunBatch"]


@dataclass(slots=True)
class Claim:
    """A run that starts in this process."""

    run: StoredRun
    text: str  #: its encoded output
    #: When it was written, in seconds of `time.monotonic`: what others do to the run comes after the transaction.
    written_at: float = 0.0

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.run.run_id


@dataclass(slots=True)
class End:
    """A run of this process whose work has ended."""

    run_id: str
    decide: Callable[[], StoredRun | None]  #: returns the ended run; None if it does not end now
    parts: list[PartRow]  #: its checkpoints that are not stored; not needed if it ends
    chosen: list[StoredRun | None] = field(default_factory=list)  #: what `decide` has returned
    followers: list[str] = field(default_factory=list)  #: the addresses to notify after the commit

    def choose(self) -> StoredRun | None:
        """Decide. A repeated transaction does not decide a second time."""
        if not self.chosen:
            self.chosen.append(self.decide())
        return self.chosen[0]


#: The epoch, an earlier cancel request, and the reason of a refusal.
Claimed = tuple[int, CancelRequestRow | None, str | None]


class RunBatch:
    """Writes the claims and ends of one store.

    Parameters:
        name: returns the name by which the id of a run is locked.
    """

    def __init__(self, leases: LeaseKeeper, name: Callable[[str], str]) -> None:
        self._leases, self._name = leases, name

    def names(self, items: Sequence[Claim | End]) -> list[str]:
        """Return the names of the runs that are claimed: another process may be cancelling such an id now."""
        return [self._name(item.run_id) for item in items if isinstance(item, Claim)]

    def write(self, tables: SqlTables, items: Sequence[Claim | End]) -> list[Any]:
        """Claim and end runs. Return for each claim what `transactions.claim_run` returns, and for each end the request
        of a cancel that was first.

        Raises:
            LeaseLostError: another process owns a run about whose end something is written already.
        """
        claims = [item for item in items if isinstance(item, Claim)]
        ends = [item for item in items if isinstance(item, End)]
        if claims:
            self._leases.heartbeat_if_due(tables)
        ids = sorted({item.run_id for item in items})
        rows = {row.run_id: row for row in tables.runs.headers(ids)}
        new: dict[str, RunRow] = {}  #: rows that are not written yet
        results: dict[int, Any] = {}
        unknown = [claim.run_id for claim in claims if claim.run_id not in rows]
        asked = tables.pending.take_all(unknown, transactions.INTENT_TTL) if unknown else {}
        for claim in claims:
            results[id(claim)] = self._claim(tables, claim, rows.get(claim.run_id), asked, new)
            if claim.run_id in rows and (now := tables.runs.header(claim.run_id)) is not None:
                rows[claim.run_id] = now  # in the epoch of this claim: the run may end in this transaction
        ended: list[tuple[StoredRun, int, bool]] = []
        for end in ends:
            before = new.get(end.run_id) or rows.get(end.run_id)
            results[id(end)] = self._decide(tables, end, before, ended)
        paused = [(run, epoch) for run, epoch, _ in ended if run.status is RunStatus.paused]
        self._store(tables, new, [one for one in ended if one[0].status is not RunStatus.paused])
        for run, epoch in paused:
            transactions.finish_run(tables, run, epoch)
        followed = [run.run_id for run, _, _ in ended if run.run_id in rows]  # no other process knows a new one
        if followed:
            followers = transactions.notify_followers(tables, followed)
            for end in ends:
                end.followers = followers
        kept = [part for end in ends if not (end.chosen and end.chosen[0]) for part in end.parts]
        if kept:
            tables.parts.add_all([(part, self._leases.epoch_of(part.run_id)) for part in kept])
        return [results[id(item)] for item in items]

    def _claim(
        self, tables: SqlTables, claim: Claim, before: RunRow | None, asked: dict[str, str], new: dict[str, RunRow]
    ) -> Claimed:
        run, leases = claim.run, self._leases
        claim.written_at = time.monotonic()
        held = leases.owned.get(run.run_id)
        taken = held is not None and held.taken
        if before is None and not taken and run.run_id not in new:
            row = row_of(tables, run, this_process(), claim.text, 1)
            row.cancel = asked.get(run.run_id)
            new[run.run_id] = row
            found: Claimed = 1, decode_cancel_request(row.cancel) if row.cancel is not None else None, None
        else:
            self._store(tables, new, [])
            found = transactions.claim_run(tables, run, claim.text, leases.epoch_of(run.run_id), taken)
        if found[2] is None:
            leases.on_claimed(run.run_id, found[0])
        else:  # the run is another process's: refuse its end from here, even if the owner has ended it by then
            leases.owned.hand_over(run.run_id, found[2])
        return found

    def _decide(
        self, tables: SqlTables, end: End, before: RunRow | None, ended: list[tuple[StoredRun, int, bool]]
    ) -> CancelRequest | Failed | None:
        """Decide between the end and a cancel of another process, see `transactions.finish_unless_cancelled`."""
        epoch = self._leases.epoch_of(end.run_id)
        if epoch is None:  # its start could not be recorded
            run = end.choose()
            if run is not None:
                transactions.replace_run(tables, run, None)
            return None
        if end.chosen and end.chosen[0] is not None:  # repeated after a failure: the first try may have been committed
            transactions.finish_run(tables, end.chosen[0], epoch)
            return None
        try:
            request = transactions.cancel_before_end(before, end.run_id, epoch)
        except LeaseLostError as error:
            return Failed(error)
        if request is not None:
            return request
        tables.tx.assert_locked()
        run = end.choose()
        if run is not None:
            owned = self._leases.owned.get(end.run_id)
            if owned is not None and owned.submitter is not None:
                tables.tx.notify(owned.submitter)
            ended.append((run, epoch, before is not None))
        return None

    def _store(self, tables: SqlTables, new: dict[str, RunRow], ended: list[tuple[StoredRun, int, bool]]) -> None:
        """Write new rows, and the ends of runs with their last events and the changes of their sessions."""
        changed: list[RunRow] = []
        for run, epoch, known in ended:
            if run.has_paused_children:
                end_paused_children(tables, run.root_run_id)
            row = row_of(tables, run, this_process(), None, epoch)
            if known and run.run_id not in new:
                changed.append(row)
            else:  # new, or deleted while it was live
                new[run.run_id] = row
        if new:
            tables.runs.put_new(list(new.values()))
            new.clear()
        if changed and tables.runs.end_all(changed) != {row.run_id for row in changed}:
            raise LeaseLostError(f"a run of {', '.join(row.run_id for row in changed)} was taken over")
        events = [row for run, epoch, _ in ended for row in transactions.pending_events(run, epoch)]
        if events and not tables.events.add_last(events):
            raise LeaseLostError(transactions.TERMINAL_EXISTS.format(", ".join(run.run_id for run, _, _ in ended)))
        sessions = [run.session for run, _, _ in ended if run.session is not None]
        fresh = {(one.session_id, one.kind): one for one in sessions if one.new}
        added = tables.sessions.add_new([one.apply(None) for one in fresh.values()])
        sessions = [
            one for one in sessions if one is not fresh.get(key := (one.session_id, one.kind)) or key not in added
        ]
        touched = ("", "")
        for change in sorted(sessions, key=lambda one: (one.session_id, one.kind, one.keeps_state)):
            key = change.session_id, change.kind
            if change.keeps_state and (key == touched or tables.sessions.touch(change)):
                touched = key
            else:
                update_session(tables, change)
