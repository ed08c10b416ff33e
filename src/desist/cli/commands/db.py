"""`desist db`: look after a database."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.durations import parse_duration
from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, print_json, write

if TYPE_CHECKING:
    from desist.db.base import BaseDb

__all__ = ["database"]

_ALL = 2**31 - 1
database = typer.Typer(name="db", help="Look after a database: check, upgrade, prune.", no_args_is_help=True)


@database.command()
def check(
    repair: Annotated[bool, typer.Option("--repair", help="End runs that have told their end and have none.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Say whether a database is whole and of the right version. Exit code 1: it isn't.

    Nothing is changed without --repair.
    """
    from desist.db.store.shared_table_store import as_found

    with as_found():
        place: Any = _open(db)
    repaired = place.repair() if repair else []
    _print_report(place, place.check(), as_json, repaired)


@database.command()
def upgrade(as_json: AsJson = False, db: Db = None) -> None:
    """Bring its tables to what this version needs. Opening a database does that, too; here it is said."""
    place: Any = _open(db)
    _print_report(place, place.upgrade(), as_json)


@database.command()
def prune(
    older_than: Annotated[
        float, typer.Option(help="Of runs that ended so long ago: 30d, 12h.", parser=parse_duration, metavar="TIME")
    ],
    runs: Annotated[bool, typer.Option("--runs", help="Forget the runs, too; else only their events.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forget nothing: count.")] = False,
    as_json: AsJson = False,
    db: Db = None,
) -> None:
    """Forget what is old: the events of runs that have ended, or the runs as well. Live runs are left alone."""
    from desist.console.format import count

    place = _open(db)
    told, gone = _count(place, older_than, runs) if dry_run else _prune(place, older_than, runs)
    place.close()
    if as_json:
        print_json({"dry_run": dry_run, "events_of": told, "runs": gone})
        return
    would = "would be" if dry_run else "were"
    print(
        f"events of {count(told, 'run')} {would} forgotten" + (f", and {count(gone, 'run')} altogether" if runs else "")
    )


def _prune(db: BaseDb, older_than: float, runs: bool) -> tuple[int, int]:
    pruned = db.prune(older_than, runs=runs)
    return pruned.told, pruned.runs


def _count(db: BaseDb, older_than: float, runs: bool) -> tuple[int, int]:
    """Return how many runs have events to be forgotten, and how many trees of runs would be."""
    before = time.time() - older_than
    store: Any = db.store
    with store.backend.reading() as tables:
        told = len(tables.prunable(before, "events", _ALL))
        return told, len(tables.prunable(before, "runs", _ALL)) if runs else 0


def _open(db: str | None) -> BaseDb:
    """Return the database; commands of this group work on no server."""
    from desist.cli.client.open import default_database, open_database

    return open_database(db or os.environ.get("DESIST_DB") or default_database())


def _print_report(db: BaseDb, report: Any, as_json: bool, repaired: Sequence[str] = ()) -> None:
    db.close()
    if as_json:
        told = {"name": report.name, "version": report.version, "wanted": report.wanted, "problems": report.problems}
        print_json({**told, "repaired": list(repaired)})
    else:
        for run_id in repaired:
            write(f"run {run_id} has its end now, as its terminal event tells it")
        write(f"{report.name}: version {report.version}" + ("" if report.is_good else f", wanted {report.wanted}"))
        for problem in report.problems:
            write(f"  {problem}")
    raise typer.Exit(ExitCode.ok if report.is_good else ExitCode.error)
