"""`DemoRun`: run the workflow of the demo, cancel it, measure the cancel, and show the receipt."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

from rich.console import Console
from rich.text import Text

from desist.cli.demo.measurements import CpuMeter, DemoCancel, DemoResult
from desist.cli.demo.receipt_panel import receipt_panel
from desist.cli.demo.workflow import PROMPT, DemoWorkflow
from desist.cli.render.console import SafeConsole
from desist.cli.terminal.keys import watch_keys
from desist.cli.terminal.svg_recording import Recording
from desist.console import RunView, show
from desist.run.records.ids import new_id

__all__ = ["DemoRun"]


class DemoRun:
    """One run of the demo: the view, the recording, the timer, the keyboard and the measurements."""

    def __init__(self, demo: DemoWorkflow, console: Console, recording: Recording | None, *, quiet: bool) -> None:
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
