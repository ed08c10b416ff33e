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

    With --follow the exit code says how it ended: 0 completed, 1 failed, 4 cancelled. A server that is lost is tried
    again, from the last event on.
    """
    from desist.cli.terminal.broken_pipe import exit_on_broken_pipe

    last: dict[str, Any] = {}
    with exit_on_broken_pipe(), client_from_options(db, server, token) as place:
        tell = print_json if as_json else _EventPrinter().print_event
        with contextlib.closing(place.events(run, after=first - 1 if first else None, follow=follow)) as told:
            for event in told:
                tell(event)
                last = event
    raise typer.Exit(_code(last) if follow else ExitCode.ok)


def _code(last: dict[str, Any]) -> ExitCode:
    name = str(last.get("event", ""))
    if name.endswith("Cancelled"):
        return ExitCode.otherwise
    return ExitCode.error if name.endswith("Error") else ExitCode.ok


class _EventPrinter:
    """Prints events as text lines."""

    def __init__(self) -> None:
        from desist.cli.render import output_console

        self._console: Console = output_console(wide=True)

    def print_event(self, event: dict[str, Any]) -> None:
        """Print an event."""
        from rich.text import Text

        from desist.cli.render.events import format_event, style_of_event

        name = str(event.get("event", "?"))
        line = Text.assemble(
            (f"{event.get('event_index', ''):>5}  ", "dim"),
            (f"{name:<24}", style_of_event(name)),
            format_event(event),
        )
        self._console.print(line, no_wrap=True, overflow="ellipsis")
        self._console.file.flush()
