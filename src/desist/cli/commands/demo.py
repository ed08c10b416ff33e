"""`desist demo`: a model writes a long story, somebody stops it, and the receipt says what became of it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from desist.cli.options import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from desist.cli.demo.measurements import StopMeasurement
    from desist.cli.demo.workflow import DemoWorkflow
    from desist.cli.terminal.svg_recording import Recording
    from desist.console import RunView

__all__ = ["demo"]

INTERRUPTED, TERMINATED = 130, 143


def demo(
    after: Annotated[float, typer.Option(help="Seconds after which the story is stopped.", min=0.0)] = 8.0,
    model: Annotated[
        str | None, typer.Option(help="A provider's model instead of the local one; needs OPENAI_API_KEY.")
    ] = None,
    scripted: Annotated[bool, typer.Option("--scripted", help="A script instead of a model; needs nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Install the local model unasked if it is missing.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", "--headless", help="Show nothing but one JSON object; exit code 1 unless it all held."),
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Save a picture of it, as SVG.", metavar="FILE.svg")] = None,
) -> None:
    """Let a model write a very long story, and stop it: after some seconds, at any key, or at Ctrl-C."""
    from desist.cli.render.console import Paper
    from desist.exceptions import ConfigurationError

    if scripted and model is not None:
        raise ConfigurationError("--scripted and --model exclude each other: use one of them")
    signal.signal(signal.SIGTERM, _terminated)
    console = Paper(stderr=as_json, highlight=False)
    recording = _recording(record)
    play = _prepare(console, scripted, model, yes)
    try:
        end = _DemoRun(play, console, recording, quiet=as_json).run(after)
    finally:
        if play.server is not None:
            play.server.stop()
    if recording is not None:
        recording.save(f"desist demo --after {after:g}" + (" --scripted" if scripted else ""))
    if as_json:
        print_json(asdict(end.facts))
    raise typer.Exit(INTERRUPTED if end.interrupted else _code(end.facts, as_json))


def _terminated(number: int, frame: Any) -> None:
    sys.exit(TERMINATED)  # unwinds: the run is cancelled, the terminal is put back


def _code(facts: StopMeasurement, strict: bool) -> int:
    held = facts.ok if strict else facts.status != "ERROR" and facts.model_stopped is not False
    return 0 if held else 1


def _recording(path: Path | None) -> Recording | None:
    if path is None:
        return None
    from desist.cli.terminal.svg_recording import Recording

    return Recording(path)


def _prepare(console: Console, scripted: bool, model: str | None, yes: bool) -> DemoWorkflow:
    from desist.cli.demo import workflow as story

    if scripted:
        return story.scripted_play()
    if model is not None:
        return story.openai_play(model)
    from desist.models.local.install import ensure_installed

    if not ensure_installed(console, assume_yes=yes):
        raise typer.Exit(1)
    play = story.local_play()
    assert play.server is not None
    with console.status("loading the local model ..."):
        play.server.ensure_blocking()
    return play


@dataclass
class _End:
    facts: StopMeasurement
    interrupted: bool


class _DemoRun:
    """One run of the story, with its audience: a view, a recording, the timer, the keyboard, the meter."""

    def __init__(self, play: DemoWorkflow, console: Console, recording: Recording | None, *, quiet: bool) -> None:
        from desist.cli.demo.measurements import CpuMeter, DemoCancel
        from desist.run.execution.run import new_id

        self._play, self._console, self._recording, self._quiet = play, console, recording, quiet
        self._run_id = new_id()
        self._stop = DemoCancel(play, self._run_id)
        self._meter = CpuMeter(play)
        self._recorded: RunView | None = None
        self._terminal: Any = None
        self._seen_at = 0.0

    def run(self, after: float) -> _End:
        """Run it to its end, and show the receipt."""
        from desist.cli.terminal.keys import watch_keys

        timer = threading.Timer(after, self._stop.cancel, args=(f"{after:g} s are over", "the demo's timer"))
        timer.daemon = True
        interrupted = False
        try:
            with watch_keys(lambda: self._stop.cancel("a key was pressed", "you, at the keyboard")) as keys:
                timer.start()
                self._show(f"stops after {after:g} s, or at {'any key' if keys else 'Ctrl-C'}")
        except KeyboardInterrupt:
            if self._terminal is None:
                raise
            interrupted = True
        finally:
            timer.cancel()
        return _End(self._receipt(), interrupted)

    def _show(self, hint: str) -> None:
        from rich.text import Text

        from desist.cli.demo.workflow import ASKED
        from desist.console import show

        reader = self._play.workflow.run(ASKED, run_id=self._run_id, stream=True, stream_events=True)
        view = self._view(hint)
        label = Text(f"model: {self._play.label}", style="dim")
        self._print(label)
        if self._recording is None:
            show(reader, view, self._note)
            return
        self._recording.console.print(label)
        with self._recording.view(self._run_id, ASKED) as self._recorded:
            show(reader, view, self._note)

    def _view(self, hint: str) -> RunView:
        import io

        from desist.cli.demo.workflow import ASKED
        from desist.cli.render.console import Paper
        from desist.console import RunView

        console = Paper(file=io.StringIO()) if self._quiet else self._console
        self._main = RunView(console, self._run_id, input=ASKED, show_end=False, hint=hint)
        return self._main

    def _note(self, event: Any) -> None:
        """Look at an event before it is shown."""
        if event.is_terminal and event.run_id == self._run_id:
            self._terminal, self._seen_at = event, time.time()
            self._meter.stopped()
        if self._recorded is not None:
            self._recorded.take(event)

    def _receipt(self) -> StopMeasurement:
        from desist.cli.demo.measurements import gather
        from desist.cli.demo.receipt_panel import receipt

        if self._play.server is not None and self._terminal.is_cancelled:
            with self._console.status("watching the model for a second ..."):
                self._meter.watch()
        facts = gather(self._play, self._terminal, self._seen_at, self._stop, self._meter, self._main.pieces)
        drawn = receipt(facts, self._console.encoding)
        self._print(drawn)
        if self._recording is not None:
            self._recording.console.print(drawn)
        return facts

    def _print(self, what: Any) -> None:
        if not self._quiet:
            self._console.print(what)
