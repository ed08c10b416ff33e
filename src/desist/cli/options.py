"""The options that say where runs are, the same for every command; and JSON, the same for every command."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from desist.cli.client import RunClient

__all__ = ["AsJson", "Db", "Server", "Token", "client_from_options", "login", "print_json", "write"]

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
        help="The server's token. Better in DESIST_TOKEN: what is typed can be seen in the list of processes.",
        metavar="SECRET",
        rich_help_panel=_PANEL,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Say it as JSON.")]


@contextlib.contextmanager
def client_from_options(db: str | None, server: str | None, token: str | None) -> Iterator[RunClient]:
    """Open where the runs are, and let go of it at the end."""
    from desist.cli.client import open_client

    _keep_the_log_off()
    found = open_client(db, server, token)
    try:
        yield found
    finally:
        found.close()


def print_json(value: Any) -> None:
    """Write a value as one line of JSON, at once. What would control a terminal is escaped."""
    from desist.console.format import escaped

    sys.stdout.write(escaped(json.dumps(value, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def write(words: str, *, error: bool = False) -> None:
    """Write a line for people, at once, without what would control a terminal; as an error to standard error."""
    from desist.console.format import clean

    print(clean(words).replace("\n", " ").rstrip(), file=sys.stderr if error else sys.stdout, flush=True)


def login() -> str | None:
    """Return who asks, as cancels record it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _keep_the_log_off() -> None:
    """Let what a database logs while it is looked at not stand between the lines; errors are shown."""
    from desist.cli.log import terminal_handler

    log = logging.getLogger("desist")
    if not log.handlers:
        handler = terminal_handler()
        handler.setLevel(logging.ERROR)
        log.addHandler(handler)
