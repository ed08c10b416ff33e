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

    def end_runs(self: Any, rows: Any) -> set[str]:
        for row in rows:
            self.put(row)
        return {row.run_id for row in rows}

    add_last = EventStatements.add_last

    def put_anyway(self: Any, rows: Any) -> bool:
        add_last(self, rows)
        return True

    EventStatements.add_last = put_anyway  # type: ignore[method-assign]
    LeaseKeeper._drop_lost_run = lambda *args: None  # type: ignore[method-assign]
    RunStatements.end_all = end_runs  # type: ignore[method-assign]
    asking.cancel_before_end = lambda *args: None


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
