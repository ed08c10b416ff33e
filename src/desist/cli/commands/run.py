"""`desist run`: run a workflow or agent in the terminal."""

from __future__ import annotations

import copy
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.durations import duration_option
from desist.cli.options import AsJson, Db, Server, Token

if TYPE_CHECKING:
    from desist.cli.foreground.base import ForegroundRun

__all__ = ["begin", "run", "start_remote", "with_database"]


def run(
    target: Annotated[
        str,
        typer.Argument(help="file.py, file.py:name or module:name; with --server the id of a workflow or agent."),
    ],
    raw_input: Annotated[
        str | None, typer.Argument(help="The input; - reads it from standard input.", metavar="INPUT")
    ] = None,
    json_input: Annotated[
        bool, typer.Option("--json-input", help="INPUT is JSON: a list, or a dict of fields.")
    ] = False,
    session: Annotated[str | None, typer.Option(help="The session of the run.")] = None,
    user: Annotated[str | None, typer.Option(help="The user of the run.")] = None,
    timeout: Annotated[float | None, duration_option("Time after which the run is cancelled: 90s, 10m.")] = None,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Run a workflow or agent and show it live. Ctrl-C cancels the run; a second Ctrl-C skips the cleanup.

    In this process, or on a server with --server. With --json: events, one per line, and the output last. Exit codes:
    0 completed, 1 failed, 4 cancelled by another program or a limit, 130 cancelled by Ctrl-C, 143 by SIGTERM.
    """
    from desist.cli.foreground.signals import Signals

    value = _input(raw_input, json_input)
    options = {"session_id": session, "user_id": user, "timeout": timeout}
    with Signals() as signals:
        url = _server(db, server)
        started = (
            _start_on_server(url, token, target, value, options)
            if url is not None
            else _start_local(target, db, value, options)
        )
        raise typer.Exit(begin(started, signals, value, as_json))


def begin(started: ForegroundRun, signals: Any, input: Any, as_json: bool) -> int:
    """Show a started run until its end. Return the exit code."""
    from desist.cli.foreground.show import show_run
    from desist.cli.render.console import SafeConsole

    console = SafeConsole(stderr=as_json, highlight=False)
    try:
        return show_run(started, signals, input="" if input is None else str(input), as_json=as_json, console=console)
    finally:
        started.close()


def _input(raw_input: str | None, as_json: bool) -> Any:
    text = sys.stdin.read() if raw_input == "-" else raw_input
    if not as_json or text is None:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"INPUT is not JSON: {error}") from error


def _server(db: str | None, server: str | None) -> str | None:
    """Return the server to use. With --db the run is local, whatever DESIST_SERVER is."""
    if db is not None and server is not None:
        raise typer.BadParameter("--db and --server exclude each other: use one of them")
    return server if server is not None or db is not None else os.environ.get("DESIST_SERVER") or None


def _start_local(target: str, db: str | None, input: Any, options: dict[str, Any]) -> ForegroundRun:
    from desist.cli.foreground.local_run import LocalRun
    from desist.cli.import_target import load_default

    component = with_database(load_default(target), db)
    return LocalRun(component, component.run(input, stream=True, stream_events=True, **options))


def with_database(component: Any, db: str | None) -> Any:
    """Return a workflow or agent with the given database, unless it has one of its own."""
    target = db or os.environ.get("DESIST_DB") or None
    if target is None or component.db is not None:
        return component
    from desist.cli.client import open_database

    made = copy.copy(component)
    made.db = open_database(target, new=True)
    return made


def _start_on_server(url: str, token: str | None, target: str, input: Any, options: dict[str, Any]) -> ForegroundRun:
    """Start a run on the server: of the workflow with this id, else of the agent."""
    from desist.cli.exit_codes import NotFound

    given = {name: value for name, value in {**options, "input": input}.items() if value is not None}
    try:
        return start_remote(url, token, "/v1/runs", {"workflow": target, **given})
    except NotFound:
        pass
    try:
        return start_remote(url, token, "/v1/runs", {"agent": target, **given})
    except NotFound:
        raise NotFound(f"{url} serves no workflow and no agent {target!r}") from None


def start_remote(url: str, token: str | None, path: str, body: dict[str, Any]) -> ForegroundRun:
    """Start a run on a server."""
    from desist.cli.client.http import HttpClient
    from desist.cli.foreground.remote_run import RemoteRun

    http = HttpClient(url, token or os.environ.get("DESIST_TOKEN") or None)
    try:
        return RemoteRun(http, path, body)
    except BaseException:
        http.close()
        raise
