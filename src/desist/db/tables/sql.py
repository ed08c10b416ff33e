"""`SqlTables`: the tables of SQLite and Postgres."""

from __future__ import annotations

from desist.db.tables.sql_events import EventStatements
from desist.db.tables.sql_owners import OwnerStatements, PendingCancelStatements
from desist.db.tables.sql_queue import QueueStatements
from desist.db.tables.sql_requirements import RequirementStatements
from desist.db.tables.sql_runs import PartStatements, RunStatements
from desist.db.tables.sql_sessions import SessionStatements
from desist.db.tables.sql_transaction import SqlTransaction
from desist.db.tables.sql_workers import LimitStatements, ScheduleStatements, WorkerStatements

__all__ = ["SqlTables"]


class SqlTables:
    """The tables of one transaction: a part for each kind of rows. The parts share the transaction only.

    What a transaction of the writer has read, no other transaction changes before the end of that transaction.
    """

    __slots__ = (
        "events",
        "everywhere",
        "limits",
        "owners",
        "parts",
        "pending",
        "queue",
        "requirements",
        "runs",
        "schedules",
        "sessions",
        "tx",
        "workers",
    )

    def __init__(self, tx: SqlTransaction) -> None:
        self.tx, self.everywhere = tx, tx.everywhere
        self.runs, self.parts, self.events = RunStatements(tx), PartStatements(tx), EventStatements(tx)
        self.sessions, self.requirements = SessionStatements(tx), RequirementStatements(tx)
        self.owners, self.pending = OwnerStatements(tx), PendingCancelStatements(tx)
        self.queue, self.workers = QueueStatements(tx), WorkerStatements(tx)
        self.limits, self.schedules = LimitStatements(tx), ScheduleStatements(tx)

    def now(self) -> float:
        """Return the time of the clock that all processes on these tables use; seconds since the epoch."""
        return self.tx.now()
