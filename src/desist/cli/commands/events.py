"""`desist events`: print the events of a run, stored and live."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.completion import Run
from desist.cli.exit_codes import ExitCode
from desist.cli.options import AsJson, Db, Server, Token, client_from_options, print_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["events"]


def events(
    run: Run,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the run until its end.")] = False,
    first: Annotated[int, typer.Option("--from", help="Start with the event of this index.", min=0, metavar="N")] = 0,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Print the events of a run, one per line, numbered. Leaving doesn't cancel the run.

    With --follow the exit code is that of the end: 0 completed, 1 failed, 4 cancelled. A lost connection to a server is
    reopened after the last event.
    """
    from desist.cli.render import output_console
    from desist.cli.terminal.broken_pipe import exit_on_broken_pipe

    last: dict[str, Any] = {}
    console = output_console(wide=True)
    with (
        exit_on_broken_pipe(),
        client_from_options(db, server, token) as client,
        contextlib.closing(client.events(run, after=first - 1 if first else None, follow=follow)) as found,
    ):
        for last in found:
            if as_json:
                print_json(last)
            else:
                _print_event(console, last)
    raise typer.Exit(_code(last) if follow else ExitCode.ok)


def _code(last: dict[str, Any]) -> ExitCode:
    name = str(last.get("event", ""))
    if name.endswith("Cancelled"):
        return ExitCode.ended_differently
    return ExitCode.error if name.endswith("Error") else ExitCode.ok


def _print_event(console: Console, event: dict[str, Any]) -> None:
    from rich.text import Text

    from desist.cli.render.events import format_event, style_of_event

    name = str(event.get("event", "?"))
    line = Text.assemble(
        (f"{event.get('event_index', ''):>5}  ", "dim"),
        (f"{name:<24}", style_of_event(name)),
        format_event(event),
    )
    console.print(line, no_wrap=True, overflow="ellipsis")
    console.file.flush()
