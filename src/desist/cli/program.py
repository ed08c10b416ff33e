"""The program `desist`: its commands, and how errors become exit codes.

Not in `__init__`: the packages `cli.demo` and `cli.watch` would replace the commands of these names there.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from desist.cli.commands.cancel import cancel
from desist.cli.commands.db import database
from desist.cli.commands.demo import demo
from desist.cli.commands.doctor import doctor
from desist.cli.commands.events import events
from desist.cli.commands.fleet import limit, pause_workflow, queue, resume_workflow, schedule, workers
from desist.cli.commands.model import model
from desist.cli.commands.resume import continue_run, resume
from desist.cli.commands.run import run
from desist.cli.commands.runs import runs, show
from desist.cli.commands.serve import mcp, serve
from desist.cli.commands.watch import watch
from desist.cli.commands.worker import worker
from desist.cli.exit_codes import ExitCode, code_of
from desist.cli.log import terminal_handler
from desist.exceptions import DesistError

__all__ = ["app", "main"]

app = typer.Typer(
    name="desist",
    help="Agent workflows you can stop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(run)
app.command()(runs)
app.command()(show)
app.command()(events)
app.command()(watch)
app.command()(cancel)
app.command("continue")(continue_run)
app.command()(resume)
app.command()(serve)
app.command()(mcp)
app.command()(doctor)
app.add_typer(database, name="db")
app.command()(worker)
app.command()(workers)
app.command()(queue)
app.command()(limit)
app.command("pause-workflow")(pause_workflow)
app.command("resume-workflow")(resume_workflow)
app.add_typer(schedule, name="schedule")
app.add_typer(model, name="model")


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"desist {version('desist')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Agent workflows you can stop: one decision, now, truthful, complete."""


def main() -> None:
    """Run the program. An error prints one line and exits with code 1; Ctrl-C exits with code 130.

    With DESIST_TRACEBACK set, an unexpected error is raised with its traceback, for a bug report.
    """
    logging.lastResort = terminal_handler()  # for programs that configure no logging
    try:
        app(prog_name="desist")
    except KeyboardInterrupt:
        sys.exit(ExitCode.interrupted)
    except BrokenPipeError:  # the reader of stdout has closed it: let Python's final flush succeed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except DesistError as error:
        _fail(str(error), code_of(error))
    except Exception as error:
        if os.environ.get("DESIST_TRACEBACK"):
            raise
        kind = type(error).__name__
        _fail(f"unexpected {kind}: {error}. This is a bug in desist: DESIST_TRACEBACK=1 shows where")


def _fail(message: str, code: int = ExitCode.error) -> None:
    from desist.console.format import clean
    from desist.run.records.redact import redact

    print(f"error: {redact(clean(message))}", file=sys.stderr)
    sys.exit(code)
