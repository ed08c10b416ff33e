"""`desist resume`: resume orphaned runs. `desist continue`: continue a cancelled or failed run."""

from __future__ import annotations

import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.completion import Run
from desist.cli.durations import duration_option
from desist.cli.options import AsJson, Db, Server, Token, print_json, write

if TYPE_CHECKING:
    from desist.cli.foreground.base import ForegroundRun

__all__ = ["continue_run", "resume"]

_Target = typer.Argument(help="file.py, file.py:name or module:name.", metavar="TARGET")


def continue_run(
    run: Run,
    target: Annotated[
        str | None,
        typer.Argument(
            help="The workflow or agent of the run: file.py, file.py:name or module:name. Not with --server."
        ),
    ] = None,
    timeout: Annotated[float | None, duration_option("Time after which the run is cancelled.")] = None,
    as_json: AsJson = False,
    db: Db = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Continue a cancelled or failed run as a new run, which keeps the finished steps.

    The new run is shown and cancelled as by `desist run`; the exit codes are the same.
    """
    from desist.cli.commands.run import begin
    from desist.cli.foreground.signals import Signals

    url = server or (os.environ.get("DESIST_SERVER") if db is None and target is None else None)
    if (url is None) == (target is None):
        raise typer.BadParameter("name the workflow, as in desist continue RUN file.py:name, or pass --server")
    with Signals() as signals:
        started = _here(run, target, db, timeout) if target is not None else _there(str(url), token, run, timeout)
        raise typer.Exit(begin(started, signals, None, as_json))


def _here(run_id: str, target: str, db: str | None, timeout: float | None) -> ForegroundRun:
    from desist.cli.commands.run import with_database
    from desist.cli.exit_codes import NotFound
    from desist.cli.foreground.local_run import LocalRun
    from desist.cli.import_target import load_default

    component = with_database(load_default(target), db)
    if component.store.load_run(run_id) is None:
        raise NotFound(f"there is no run {run_id!r} in the database of {target}: pass another one with --db")
    return LocalRun(component, component.continue_run(run_id=run_id, stream=True, stream_events=True, timeout=timeout))


def _there(url: str, token: str | None, run_id: str, timeout: float | None) -> ForegroundRun:
    from desist.cli.client.server import path_of
    from desist.cli.commands.run import start_remote

    body = {} if timeout is None else {"timeout": timeout}
    return start_remote(url, token, path_of(run_id, "/continue"), body)


def resume(target: Annotated[str, _Target], as_json: AsJson = False, db: Db = None) -> None:
    """Resume all orphaned runs of a workflow, that is, runs whose process has died, and wait for their ends.

    The workflow must have on_crash="resume". Ctrl-C cancels the runs; a second Ctrl-C skips the cleanup. Exit codes:
    0 all completed, 1 one has failed, 3 there are none, 4 one was cancelled, 130 cancelled by Ctrl-C.
    """
    from desist.cli.commands.run import with_database
    from desist.cli.exit_codes import ExitCode
    from desist.cli.foreground.signals import Signals
    from desist.cli.import_target import load_default
    from desist.exceptions import ConfigurationError
    from desist.workflow.workflow import Workflow

    with Signals() as signals:
        workflow = load_default(target)
        if not isinstance(workflow, Workflow):
            raise ConfigurationError(f"{target} is an agent: only runs of workflows can be resumed")
        resumed = with_database(workflow, db)
        cancel = _CancelAll()
        signals.to(cancel)
        ids = resumed.resume_lost_runs()
        if not as_json:
            write(f"{len(ids)} runs are resumed" if ids else "this workflow has no orphaned runs")
        raise typer.Exit(_follow(resumed, ids, cancel, as_json) if ids else ExitCode.not_found)


class _CancelAll:
    """Cancels the resumed runs on a signal. Called in the signal thread."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, count: int) -> None:
        from desist.cancel.reason import CancelReason, Source
        from desist.cancel.registry import registry

        self.number = self.number or number
        interrupt = number == signal.SIGINT
        source, text = (Source.interrupt, "Ctrl-C") if interrupt else (Source.shutdown, signal.Signals(number).name)
        runs: list[Any] = registry.live()
        for run in runs:
            if run.scope.parent is None:
                run.cancel(CancelReason(source=source, text=text, by="desist"), force=count > 1)


def _follow(workflow: Any, ids: list[str], cancel: _CancelAll, as_json: bool) -> int:
    """Wait for the end of all runs, and print each."""
    from desist.cli.exit_codes import ExitCode
    from desist.cli.foreground.signals import code_after
    from desist.run.records.json_values import to_json_value

    found = set()
    for run_id in ids:
        last = deque(workflow.follow(run_id), maxlen=1).pop()
        found.add(status := "CANCELLED" if last.is_cancelled else "ERROR" if last.is_error else "COMPLETED")
        if as_json:
            output = workflow.store.load_run(run_id).output
            print_json(to_json_value(output))
        else:
            write(f"{run_id}  {status}")
    if cancel.number is not None and "CANCELLED" in found:
        return code_after(cancel.number)
    return ExitCode.error if "ERROR" in found else ExitCode.ended_differently if "CANCELLED" in found else ExitCode.ok
