"""`desist worker`: execute submitted runs until a signal ends the worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

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
    concurrency: Annotated[int, typer.Option(help="Maximum of concurrent runs of this worker.", min=1)] = 10,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Maximum of concurrent runs of one workflow on all workers.", metavar="WORKFLOW=NUMBER"),
    ] = None,
    drain: Annotated[float, typer.Option(help="Seconds that live runs may continue after SIGTERM.", min=0.0)] = 30.0,
    health_file: Annotated[
        Path | None,
        typer.Option(help="A file that exists while the worker works, touched every 5 seconds; for probes."),
    ] = None,
) -> None:
    """Execute submitted runs, beside any number of other workers."""
    from desist.cli.client.open import open_database
    from desist.cli.import_target import load_all
    from desist.engine import Worker, serve_worker
    from desist.exceptions import ConfigurationError

    workflows, agents = load_all(targets)
    if agents:
        raise ConfigurationError(
            f"{agents[0].id!r} is an agent, and a worker executes only workflows: put the agent into a workflow"
        )
    given = db or os.environ.get("DESIST_DB")
    database: Any = open_database(given, new=True) if given else workflows[0].db
    if database is None:
        raise ConfigurationError(f"{targets[0]} has no database: pass the one that runs are submitted to with --db")
    made = Worker(workflows=workflows, db=database, concurrency=concurrency, limits=_limits(limit or []), drain=drain)
    raise typer.Exit(serve_worker(made, health_file=health_file))


def _limits(options: list[str]) -> dict[str, int]:
    from desist.exceptions import ConfigurationError

    limits: dict[str, int] = {}
    for one in options:
        name, _, number = one.rpartition("=")
        if not name or not number.isdigit():
            raise ConfigurationError(f"--limit {one!r} must look like WORKFLOW=NUMBER")
        limits[name] = int(number)
    return limits
