"""`desist demo`: a model writes a long story, the run is cancelled, and a receipt is shown."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.exit_codes import ExitCode
from desist.cli.options import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from desist.cli.demo.measurements import DemoResult
    from desist.cli.demo.workflow import DemoWorkflow
    from desist.cli.terminal.svg_recording import Recording
    from desist.console import RunView

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
    from desist.cli.render.console import SafeConsole
    from desist.exceptions import ConfigurationError

    if scripted and model is not None:
        raise ConfigurationError("--scripted and --model exclude each other: use one of them")
    signal.signal(signal.SIGTERM, _terminated)
    console = SafeConsole(stderr=as_json, highlight=False)
    recording = _recording(record)
    made = _prepare(console, scripted, model, yes)
    run = _DemoRun(made, console, recording, quiet=as_json)
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


def _recording(path: Path | None) -> Recording | None:
    if path is None:
        return None
    from desist.cli.terminal.svg_recording import Recording

    return Recording(path)


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


class _DemoRun:
    """One run of the demo: the view, the recording, the timer, the keyboard and the measurements."""

    def __init__(self, demo: DemoWorkflow, console: Console, recording: Recording | None, *, quiet: bool) -> None:
        import io

        from desist.cli.demo.measurements import CpuMeter, DemoCancel
        from desist.cli.render.console import SafeConsole
        from desist.run.records.ids import new_id

        self._demo, self._console, self._recording = demo, console, recording
        self._shown = SafeConsole(file=io.StringIO()) if quiet else console  #: for all but progress messages
        self._run_id = new_id()
        self._cancel = DemoCancel(demo, self._run_id)
        self._meter = CpuMeter(demo)
        self._recorded: RunView | None = None
        self._terminal: Any = None
        self._read_at = 0.0
        self.interrupted = False

    def run(self, after: float) -> DemoResult:
        """Run the workflow until it is cancelled, and show the receipt."""
        from desist.cli.terminal.keys import watch_keys

        timer = threading.Timer(after, self._cancel.cancel, args=(f"{after:g} s are over", "the demo's timer"))
        timer.daemon = True
        try:
            with watch_keys(lambda: self._cancel.cancel("a key was pressed", "you, at the keyboard")) as keys:
                timer.start()
                self._show(f"is cancelled after {after:g} s, or at {'any key' if keys else 'Ctrl-C'}")
        except KeyboardInterrupt:
            if self._terminal is None:
                raise
            self.interrupted = True
        finally:
            timer.cancel()
        return self._receipt()

    def _show(self, hint: str) -> None:
        from rich.text import Text

        from desist.cli.demo.workflow import PROMPT
        from desist.console import RunView, show

        reader = self._demo.workflow.run(PROMPT, run_id=self._run_id, stream=True, stream_events=True)
        self._view = RunView(self._shown, self._run_id, input=PROMPT, show_end=False, hint=hint)
        self._print(Text(f"model: {self._demo.label}", style="dim"))
        if self._recording is None:
            show(reader, self._view, self._note)
            return
        with self._recording.view(self._run_id, PROMPT) as self._recorded:
            show(reader, self._view, self._note)

    def _note(self, event: Any) -> None:
        """Look at an event before it is shown."""
        if event.is_terminal and event.run_id == self._run_id:
            self._terminal, self._read_at = event, time.time()
            self._meter.stopped()
        if self._recorded is not None:
            self._recorded.take(event)

    def _receipt(self) -> DemoResult:
        from desist.cli.demo.measurements import DemoResult
        from desist.cli.demo.receipt_panel import receipt_panel

        if self._demo.server is not None and self._terminal.is_cancelled:
            with self._console.status("watching the model for a second ..."):
                self._meter.watch()
        result = DemoResult(
            demo=self._demo,
            terminal=self._terminal,
            read_at=self._read_at,
            answered=self._cancel.answered,
            meter=self._meter,
            pieces=self._view.pieces,
        )
        self._print(receipt_panel(result, self._console.encoding))
        return result

    def _print(self, what: Any) -> None:
        self._shown.print(what)
        if self._recording is not None:
            self._recording.console.print(what)
