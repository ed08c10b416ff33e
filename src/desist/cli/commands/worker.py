"""`desist worker`: drives submitted runs of workflows of a program, until it is told to end."""

from __future__ import annotations

import os
from typing import Annotated

import typer

__all__ = ["worker"]


def worker(
    targets: Annotated[list[str], typer.Argument(help="Workflows: module:name, or file.py:name.", metavar="TARGET...")],
    db: Annotated[
        str | None,
        typer.Option(
            help="The database that workers share: postgresql://... or a SQLite file; else DESIST_DB, else that of the"
            " workflows.",
            metavar="FILE_OR_URL",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="How many runs at a time, here.", min=1)] = 10,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="How many of one workflow at a time, on all workers.", metavar="WORKFLOW=NUMBER"),
    ] = None,
    drain: Annotated[float, typer.Option(help="Seconds that runs may go on after SIGTERM.", min=0.0)] = 30.0,
) -> None:
    """Drive runs that were submitted: one of any number of workers."""
    from desist.cli.client.open import open_database
    from desist.cli.import_target import load
    from desist.engine import Worker, serve_worker
    from desist.exceptions import ConfigurationError
    from desist.workflow.workflow import Workflow

    found = [load(target) for target in targets]
    for target, one in zip(targets, found, strict=True):
        if not isinstance(one, Workflow):
            raise ConfigurationError(f"{target} is an agent, and a worker drives workflows: put it into one")
    place = db or os.environ.get("DESIST_DB")
    database = open_database(place, new=True) if place else found[0].db
    if database is None:
        raise ConfigurationError(f"{targets[0]} has no database: give --db, the one to which runs are submitted")
    made = Worker(workflows=found, db=database, concurrency=concurrency, limits=_limits(limit or []), drain=drain)
    raise typer.Exit(serve_worker(made))


def _limits(options: list[str]) -> dict[str, int]:
    from desist.exceptions import ConfigurationError

    limits: dict[str, int] = {}
    for one in options:
        name, _, number = one.rpartition("=")
        if not name or not number.isdigit():
            raise ConfigurationError(f"--limit {one!r} must look like WORKFLOW=NUMBER")
        limits[name] = int(number)
    return limits
