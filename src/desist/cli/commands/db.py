"""`desist db`: maintain a database."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.durations import duration_option
from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, print_json, write

if TYPE_CHECKING:
    from desist.db.base import BaseDb

__all__ = ["database"]

_ALL = 2**31 - 1
database = typer.Typer(name="db", help="Maintain a database: check, upgrade, prune.", no_args_is_help=True)


@database.command()
def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Store the end of runs whose terminal event is stored.")
    ] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Check the integrity and version of a database. Exit code 1 if there is a problem.

    Nothing is changed without --repair.
    """
    from desist.db.store.shared_table_store import as_found

    with as_found():
        opened: Any = _open(db)
    repaired = opened.repair() if repair else []
    _print_report(opened, opened.check(), as_json, repaired)


@database.command()
def upgrade(as_json: AsJson = False, db: Db = None) -> None:
    """Upgrade the tables to this version. Opening a database does the same; this prints what was done."""
    opened: Any = _open(db)
    _print_report(opened, opened.upgrade(), as_json)


@database.command()
def prune(
    older_than: Annotated[
        float,
        duration_option("Only runs that ended at least this long ago: 30d, 12h."),
    ],
    runs: Annotated[bool, typer.Option("--runs", help="Delete the runs, too; by default only their events.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; delete nothing.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Delete the events of runs that have ended, or the runs as well. Live runs are kept."""
    from desist.console.format import count

    opened = _open(db)
    events_of, deleted = _count(opened, older_than, runs) if dry_run else _prune(opened, older_than, runs)
    opened.close()
    if as_json:
        print_json({"dry_run": dry_run, "events_of": events_of, "runs": deleted})
        return
    would = "would be" if dry_run else "were"
    print(f"events of {count(events_of, 'run')} {would} deleted" + (f", and {count(deleted, 'run')}" if runs else ""))


def _prune(db: BaseDb, older_than: float, runs: bool) -> tuple[int, int]:
    pruned = db.prune(older_than, runs=runs)
    return pruned.told, pruned.runs


def _count(db: BaseDb, older_than: float, runs: bool) -> tuple[int, int]:
    """Return the number of runs whose events would be deleted, and of run trees that would be."""
    before = time.time() - older_than
    store: Any = db.store
    with store.backend.reading() as tables:
        events_of = len(tables.runs.prunable(before, "events", _ALL))
        return events_of, len(tables.runs.prunable(before, "runs", _ALL)) if runs else 0


def _open(db: str | None) -> BaseDb:
    """Return the database. These commands do not work on a server."""
    from desist.cli.client.open import default_database, open_database

    return open_database(db or os.environ.get("DESIST_DB") or default_database())


def _print_report(db: BaseDb, report: Any, as_json: bool, repaired: Sequence[str] = ()) -> None:
    db.close()
    if as_json:
        values = {"name": report.name, "version": report.version, "wanted": report.wanted, "problems": report.problems}
        print_json({**values, "repaired": list(repaired)})
    else:
        for run_id in repaired:
            write(f"the end of run {run_id} was stored, as in its terminal event")
        write(f"{report.name}: version {report.version}" + ("" if report.is_good else f", wanted {report.wanted}"))
        for problem in report.problems:
            write(f"  {problem}")
    raise typer.Exit(ExitCode.ok if report.is_good else ExitCode.error)
