"""`desist queue`, `workers`, `limit`, `pause-workflow`, `resume-workflow`, `schedule`: submitted runs, and workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.options import AsJson, Db, print_json, write

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["limit", "pause_workflow", "queue", "resume_workflow", "schedule", "workers"]

_Name = Annotated[str, typer.Argument(help="The id of a workflow.", metavar="WORKFLOW")]


def queue(as_json: AsJson = False, db: Db = None) -> None:
    """List the submitted runs of each workflow by what they wait for, and the limits of the workflow."""
    from desist.cli.render.run_table import span

    with _opened(db) as found:
        rows = found.queue_statistics()
    if as_json:
        for row in rows:
            print_json({name: getattr(row, name) for name in row.__slots__})
        return
    if not rows:
        write("no submitted runs, no workers")
        return
    table = _table("WORKFLOW", "QUEUED", "OLDEST", "RUNNING", "LATER", "HELD", "WORKERS", "LIMIT")
    for row in rows:
        running = str(row.running) if row.limit is None else f"{row.running}/{row.limit}"
        table.add_row(
            row.workflow_id,
            str(row.queued),
            span(row.oldest) if row.oldest is not None else "",
            running,
            str(row.scheduled),
            str(row.held),
            str(row.workers),
            "paused" if row.paused else "" if row.limit is None else str(row.limit),
        )
    _print(table)


def workers(as_json: AsJson = False, db: Db = None) -> None:
    """List the workers: where they are, which workflows they have, what they execute, since when."""
    from desist.cli.render.run_table import span

    with _opened(db) as found:
        rows = found.workers()
    if as_json:
        for row in rows:
            print_json({name: getattr(row, name) for name in row.__slots__})
        return
    if not rows:
        write("no workers: start one with desist worker file.py:name")
        return
    table = _table("WORKER", "STATE", "RUNS", "SINCE", "WORKFLOWS")
    for row in rows:
        table.add_row(
            row.description,
            "live" if row.live else "gone",
            f"{len(row.running)}/{row.concurrency}",
            f"{span(time.time() - row.started_at)} ago",
            ", ".join(row.workflows),
        )
    _print(table)


def limit(
    limits: Annotated[
        list[str], typer.Argument(help="The maximum of live runs on all workers: story=5, or story=none.")
    ],
    per_key: Annotated[
        int | None, typer.Option("--per-key", help="The maximum of live runs with one concurrency key; else 1.", min=1)
    ] = None,
    db: Db = None,
) -> None:
    """Change the limits of workflows while their workers run. Live runs beyond a new limit are not cancelled."""
    changes = [_limit(one) for one in limits]
    with _opened(db) as found:
        for name, runs in changes:
            found.set_limit(name, runs, per_key=per_key)
            write(f"{name}: {'no limit' if runs is None else f'at most {runs} live runs'}")


def pause_workflow(workflow: _Name, db: Db = None) -> None:
    """Let workers claim no more runs of a workflow. Live runs go on, submitted ones wait."""
    with _opened(db) as found:
        found.pause_workflow(workflow)
        write(f"{workflow} is paused: desist resume-workflow {workflow} lets its runs be claimed again")


def resume_workflow(workflow: _Name, db: Db = None) -> None:
    """Let workers claim runs of a paused workflow again."""
    with _opened(db) as found:
        found.resume_workflow(workflow)
        write(f"{workflow} is not paused")


schedule = typer.Typer(name="schedule", help="Submit runs periodically: add, list, remove.", no_args_is_help=True)


@schedule.command("add")
def add_schedule(
    target: Annotated[str, typer.Argument(help="The workflow: file.py, file.py:name or module:name.")],
    cron: Annotated[str, typer.Argument(help="Minute, hour, day, month, weekday: '0 8 * * *'.")],
    input: Annotated[str | None, typer.Argument(help="The input of each run.")] = None,
    name: Annotated[str | None, typer.Option(help="The name of the schedule; else the id of the workflow.")] = None,
    timezone: Annotated[str, typer.Option(help="In which the times are read: Europe/Berlin.")] = "UTC",
    db: Db = None,
) -> None:
    """Store a schedule, replacing one of its name. Workers that have the workflow submit its runs."""
    from desist.cli.commands.run import with_database
    from desist.cli.import_target import load_default
    from desist.exceptions import ConfigurationError
    from desist.workflow.workflow import Workflow

    found = load_default(target)
    if not isinstance(found, Workflow):
        raise ConfigurationError(f"{target} is an agent: only runs of workflows can be submitted")
    workflow: Any = with_database(found, db)
    stored = workflow.schedule(cron, input, name=name, timezone=timezone)
    (one,) = [one for one in workflow.db.schedules() if one.name == stored]
    write(f"{stored}: next at {_time(one.next_at)}")


@schedule.command("list")
def list_schedules(as_json: AsJson = False, db: Db = None) -> None:
    """List the schedules."""
    with _opened(db) as found:
        rows = found.schedules()
    if as_json:
        for row in rows:
            print_json({name: getattr(row, name) for name in row.__slots__})
        return
    if not rows:
        write("no schedules")
        return
    table = _table("SCHEDULE", "WORKFLOW", "WHEN", "TIMEZONE", "NEXT")
    for row in rows:
        table.add_row(row.name, row.workflow_id, row.cron, row.timezone, _time(row.next_at))
    _print(table)


@schedule.command("remove")
def remove_schedule(name: Annotated[str, typer.Argument(help="The name of a schedule.")], db: Db = None) -> None:
    """Remove a schedule. Runs that it has submitted are not cancelled."""
    from desist.cli.exit_codes import NotFound

    with _opened(db) as found:
        if not found.delete_schedule(name):
            raise NotFound(f"there is no schedule {name!r}: desist schedule list shows those that there are")
    write(f"{name} is removed")


@contextmanager
def _opened(db: str | None) -> Iterator[Any]:
    """Open the database that workers share. These commands do not work on a server."""
    from desist.cli.client.open import default_database, open_database

    found = open_database(db or os.environ.get("DESIST_DB") or default_database())
    try:
        yield found
    finally:
        found.close()


def _limit(text: str) -> tuple[str, int | None]:
    from desist.exceptions import ConfigurationError

    name, _, number = text.rpartition("=")
    if not name or not (number == "none" or (number.isdigit() and int(number) > 0)):
        raise ConfigurationError(f"{text!r} must look like WORKFLOW=NUMBER, with 1 or more, or WORKFLOW=none")
    return name, None if number == "none" else int(number)


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number > 0, overflow="fold")
    return table


def _print(table: Table) -> None:
    from desist.cli.render.console import output_console

    output_console(wide=True).print(table)
