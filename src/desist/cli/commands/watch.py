"""`desist watch`: show runs live, and cancel them with a key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.completion import run_ids
from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, Server, Token, client_from_options, print_json, write

if TYPE_CHECKING:
    from desist.cli.client import RunClient, RunInfo

__all__ = ["watch"]

_CODES = {"COMPLETED": ExitCode.ok, "ERROR": ExitCode.error}


def watch(
    run: Annotated[
        str | None, typer.Argument(help="Only this run.", metavar="RUN", autocompletion=run_ids, show_default=False)
    ] = None,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Watch runs live. Arrows select, Enter opens, x cancels (again: without time for cleanup), q quits.

    Leaving cancels nothing. Without a terminal, or with --json: a line for every change. For one run, until its end;
    exit code 0 if it has completed, 1 if it has failed, 4 if it was cancelled.
    """
    from desist.cli.render import output_console
    from desist.cli.terminal.broken_pipe import exit_on_broken_pipe

    console = output_console()
    with exit_on_broken_pipe(), client_from_options(db, server, token) as client:
        if console.is_terminal and not console.is_dumb_terminal and not as_json:
            _screen(client, run, console)
            raise typer.Exit
        raise typer.Exit(_lines(client, run, as_json))


def _screen(client: RunClient, run: str | None, console: Any) -> None:
    from desist.cli.watch.screen import watch_screen

    if run is not None:
        client.run(run)  # raises if there is no such run
    for run_id, answer in watch_screen(client, run, console).items():
        console.print(f"{run_id}  {answer}", markup=False)


def _lines(client: RunClient, run_id: str | None, as_json: bool) -> ExitCode:
    """Print each run whose status or steps have changed: of all runs, without end, or of one run until it has ended."""
    from desist.cli.exit_codes import Unreachable
    from desist.cli.watch.poller import EVERY

    known: dict[str, tuple[str, list[str]]] = {}
    is_lost = False
    while True:
        try:
            found, is_lost = _poll(client, run_id), False
        except Unreachable as error:
            if not is_lost:
                write(f"{error}; trying again", error=True)
            found, is_lost = [], True
        for run in reversed(found):
            if known.get(run.run_id) != (run.status, run.steps):
                known[run.run_id] = (run.status, run.steps)
                _print_line(run, as_json)
            if run_id is not None and not run.is_live:
                return _CODES.get(run.status, ExitCode.ended_differently)
        time.sleep(EVERY)


def _poll(client: RunClient, run_id: str | None) -> list[RunInfo]:
    from desist.cli.client import RunFilter
    from desist.cli.watch.poller import NEWEST

    return client.runs(RunFilter(limit=NEWEST)) if run_id is None else [client.run(run_id)]


def _print_line(run: RunInfo, as_json: bool) -> None:
    if as_json:
        print_json(run.plain())
    else:
        write(f"{time.strftime('%H:%M:%S')}  {run.run_id}  {run.status:<10}  {run.what}  {' > '.join(run.steps)}")
