"""`desist watch`: show runs live, and cancel them with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.completion import run_ids
from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, Server, Token, client_from_options, print_json, write

if TYPE_CHECKING:
    from desist.cli.client import RunClient

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
    from desist.cli.watch import watch_screen

    if run is not None:
        client.run(run)  # raises if there is no such run
    for run_id, answer in watch_screen(client, run, console).items():
        console.print(f"{run_id}  {answer}", markup=False)


def _lines(client: RunClient, run: str | None, as_json: bool) -> ExitCode:
    import time

    from desist.cli.watch import watch_lines

    def print_run(one: Any) -> None:
        if as_json:
            print_json(one.plain())
        else:
            at = time.strftime("%H:%M:%S")
            write(f"{at}  {one.run_id}  {one.status:<10}  {one.what}  {' > '.join(one.steps)}")

    status = watch_lines(client, run, print_run, lambda message: write(message, error=True))
    return _CODES.get(status, ExitCode.ended_differently)
