"""Options that commands share: --db, --server, --token, --json, filters of runs; and output."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.durations import duration_option

if TYPE_CHECKING:
    from desist.cli.client import RunClient

__all__ = [
    "Agent",
    "AsJson",
    "Db",
    "OlderThan",
    "Server",
    "Session",
    "Token",
    "User",
    "Workflow",
    "client_from_options",
    "login",
    "print_json",
    "write",
]

_PANEL = "Where the runs are"
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="A SQLite file, sqlite:///FILE or postgresql://...; else DESIST_DB, else desist.db here.",
        metavar="FILE_OR_URL",
        rich_help_panel=_PANEL,
    ),
]
Server = Annotated[
    str | None,
    typer.Option("--server", help="A server; else DESIST_SERVER.", metavar="URL", rich_help_panel=_PANEL),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="The server's token. Prefer DESIST_TOKEN: arguments are visible in the list of processes.",
        metavar="SECRET",
        rich_help_panel=_PANEL,
    ),
]
_FILTERS = "Filters"
Workflow = Annotated[
    str | None, typer.Option("--workflow", help="Only runs of this workflow, by name or id.", rich_help_panel=_FILTERS)
]
Agent = Annotated[
    str | None, typer.Option("--agent", help="Only runs of this agent, by name or id.", rich_help_panel=_FILTERS)
]
Session = Annotated[str | None, typer.Option("--session", help="Only runs of this session.", rich_help_panel=_FILTERS)]
User = Annotated[str | None, typer.Option("--user", help="Only runs of this user.", rich_help_panel=_FILTERS)]
OlderThan = Annotated[
    float | None,
    duration_option("Only runs that started at least this long ago: 90s, 10m, 2h.", rich_help_panel=_FILTERS),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextlib.contextmanager
def client_from_options(db: str | None, server: str | None, token: str | None) -> Iterator[RunClient]:
    """Open the database or server of the options, and close it at the end."""
    from desist.cli.client import open_client

    _show_only_errors_of_the_log()
    found = open_client(db, server, token)
    try:
        yield found
    finally:
        found.close()


def print_json(value: Any) -> None:
    """Print a value as one line of JSON and flush. Terminal control characters are escaped."""
    from desist.console.format import escaped

    sys.stdout.write(escaped(json.dumps(value, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def write(text: str, *, error: bool = False) -> None:
    """Print a line of text without terminal control characters and flush; errors to standard error."""
    from desist.console.format import clean

    print(clean(text).replace("\n", " ").rstrip(), file=sys.stderr if error else sys.stdout, flush=True)


def login() -> str | None:
    """Return the login name, which cancel records have as the requester."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _show_only_errors_of_the_log() -> None:
    """Hide log lines of the database below errors, which would mix with the output."""
    from desist.cli.log import terminal_handler

    log = logging.getLogger("desist")
    if not log.handlers:
        handler = terminal_handler()
        handler.setLevel(logging.ERROR)
        log.addHandler(handler)
