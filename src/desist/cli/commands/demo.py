"""`desist demo`: a model writes a long story, the run is cancelled, and a receipt is shown."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.exit_codes import ExitCode
from desist.cli.options import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from desist.cli.demo.workflow import DemoWorkflow

__all__ = ["demo"]


def demo(
    after: Annotated[float, typer.Option(help="Seconds after which the run is cancelled.", min=0.0)] = 8.0,
    model: Annotated[
        str | None, typer.Option(help="A provider's model instead of the local one; needs OPENAI_API_KEY.")
    ] = None,
    scripted: Annotated[bool, typer.Option("--scripted", help="Use a script instead of a model.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Install the local model without asking if it is missing.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", "--headless", help="Print only one JSON object; exit code 1 if a check failed."),
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Save a picture of the terminal as SVG.", metavar="FILE.svg")
    ] = None,
) -> None:
    """Let a model write a very long story, and cancel it: after some seconds, at any key, or at Ctrl-C."""
    from desist.cli.demo.demo_run import DemoRun
    from desist.cli.render.console import SafeConsole
    from desist.cli.terminal.svg_recording import Recording
    from desist.exceptions import ConfigurationError

    if scripted and model is not None:
        raise ConfigurationError("--scripted and --model exclude each other: use one of them")
    signal.signal(signal.SIGTERM, _terminated)
    console = SafeConsole(stderr=as_json, highlight=False)
    recording = Recording(record) if record is not None else None
    made = _prepare(console, scripted, model, yes)
    run = DemoRun(made, console, recording, quiet=as_json)
    try:
        result = run.run(after)
    finally:
        if made.server is not None:
            made.server.stop()
    if recording is not None:
        recording.save(f"desist demo --after {after:g}" + (" --scripted" if scripted else ""))
    if as_json:
        values = result.plain()
        print_json(values)
        held = values["ok"]
    else:
        held = not result.terminal.is_error and result.model_stopped is not False
    raise typer.Exit(ExitCode.interrupted if run.interrupted else ExitCode.ok if held else ExitCode.error)


def _terminated(number: int, frame: Any) -> None:
    sys.exit(ExitCode.terminated)  # unwinds: the run is cancelled, and the terminal is restored


def _prepare(console: Console, scripted: bool, model: str | None, yes: bool) -> DemoWorkflow:
    from desist.cli.demo.workflow import local_demo, openai_demo, scripted_demo

    if scripted:
        return scripted_demo()
    if model is not None:
        return openai_demo(model)
    from desist.models.local.install import ensure_installed

    if not ensure_installed(console, assume_yes=yes):
        raise typer.Exit(ExitCode.error)
    made = local_demo()
    assert made.server is not None
    with console.status("loading the local model ..."):
        made.server.ensure_blocking()
    return made
