"""Mistakes that a worker can be told to make, to show that the verdict finds them. Nothing of desist knows of this."""

from __future__ import annotations

from typing import Any

from desist.db.coordination import transactions as asking
from desist.db.coordination.lease_keeper import LeaseKeeper
from desist.db.recovery import rebuild as crash
from desist.db.tables.sql_events import EventStatements
from desist.db.tables.sql_runs import RunStatements

__all__ = ["MISTAKES", "make"]


def _ignore_epoch() -> None:
    """A worker that was taken for dead goes on, and writes over what others have written since."""

    def end_run(self: Any, row: Any) -> bool:
        self.put(row)
        return True

    def decide(tables: Any, run_id: str, epoch: int, choose: Any) -> None:
        run = choose()
        if run is not None:
            asking.finish_run(tables, run, epoch)

    add_last = EventStatements.add_last

    def put_anyway(self: Any, rows: Any) -> bool:
        add_last(self, rows)
        return True

    EventStatements.add_last = put_anyway  # type: ignore[method-assign]
    LeaseKeeper._drop_lost_run = lambda *args: None  # type: ignore[method-assign]
    RunStatements.end = end_run  # type: ignore[method-assign]
    asking.finish_unless_cancelled = decide  # type: ignore[assignment]


def _forget_parts() -> None:
    """Whoever goes on with a run begins it anew."""
    crash._effective_parts = lambda parts: []


def _forget_request() -> None:
    """Whoever asks to cancel a run is told that this was recorded; it wasn't."""
    RunStatements.set_cancel = lambda *args: True  # type: ignore[method-assign]


MISTAKES = {"ignore_epoch": _ignore_epoch, "forget_parts": _forget_parts, "forget_request": _forget_request}


def make(name: str) -> None:
    """Begin to work wrongly."""
    MISTAKES[name]()
