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

#: The style of an event by the end of its name.
_STYLES = (
    ("Cancelled", "yellow"),
    ("Error", "red"),
    ("Completed", "green"),
    ("Started", "cyan"),
    ("Paused", "magenta"),
)


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

    name = str(event.get("event", "?"))
    style = next((style for ending, style in _STYLES if name.endswith(ending)), "")
    line = Text.assemble((f"{event.get('event_index', ''):>5}  ", "dim"), (f"{name:<24}", style), _format_event(event))
    console.print(line, no_wrap=True, overflow="ellipsis")
    console.file.flush()


def _format_event(event: dict[str, Any]) -> str:
    """Return the source of an event and its content."""
    from desist.console.format import one_line
    from desist.run.events.base import content_text

    tool = event.get("tool") or {}
    cancel = event.get("cancel") or {}
    content = event.get("content")
    if content is None:
        content = (event.get("step_output") or {}).get("content")
    parts = [
        event.get("step_name") or event.get("agent_name") or event.get("workflow_name"),
        f"{tool['tool_name']}()" if tool.get("tool_name") else None,
        event.get("error"),
        f"{cancel.get('source')}: {cancel.get('reason') or ''}" if cancel else event.get("reason"),
        repr(one_line(content_text(content), 120)) if content is not None else None,
    ]
    return " · ".join(one_line(part, 160) for part in parts if part)
