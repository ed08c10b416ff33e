"""`desist runs` and `desist show`: list runs, and show one run in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from desist.cancel.status import RunStatus
from desist.cli.completion import Run
from desist.cli.exit_codes import ExitCode
from desist.cli.options import (
    Agent,
    AsJson,
    Db,
    OlderThan,
    Server,
    Session,
    Token,
    User,
    Workflow,
    client_from_options,
    print_json,
)

if TYPE_CHECKING:
    from desist.cli.client import RunInfo

__all__ = ["runs", "show"]


def runs(
    status: Annotated[
        list[RunStatus] | None, typer.Option(help="Only runs with this status; can be repeated.", case_sensitive=False)
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Only live runs.")] = False,
    workflow: Workflow = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(help="Maximum of runs, newest first.", min=1)] = 50,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """List runs, newest first. Exit code 3 if none matches."""
    from desist.cli.client import LIVE, RunFilter

    wanted = RunFilter(
        statuses=LIVE if live else [one.value for one in status or ()],
        workflow=workflow,
        agent=agent,
        session_id=session,
        user_id=user,
        older_than=older_than,
        limit=limit + 1,
    )
    with client_from_options(db, server, token) as client:
        found = client.runs(wanted)
        shown, more = found[:limit], len(found) > limit
        if as_json:
            print_json([run.plain() for run in shown])
        else:
            _print_runs(shown, more, client.name)
    raise typer.Exit(ExitCode.ok if shown else ExitCode.not_found)


def _print_runs(shown: Sequence[RunInfo], more: bool, name: str) -> None:
    from desist.cli.render import output_console, run_table

    if not shown:
        output_console(stderr=True).print(f"no matching runs in {name}", markup=False)
        return
    console = output_console(wide=True)
    console.print(run_table(shown, console))
    if more:
        output_console(stderr=True).print(f"there are more runs: use --limit {len(shown) * 4}", style="dim")


def show(run: Run, as_json: AsJson = False, db: Db = None, server: Server = None, token: Token = None) -> None:
    """Show a run: status, times, cancel record, steps, output. Exit code 3 if there is no such run."""
    from desist.cli.client import LiveInfo

    with client_from_options(db, server, token) as client:
        found = client.run(run)
        live = client.live_info(run) if found.is_live or found.cancel else LiveInfo()
    if as_json:
        print_json(found.plain())
        return
    from desist.cli.render import output_console, render_run

    console = output_console()
    console.print(render_run(found, live, console))
