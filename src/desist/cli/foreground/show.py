"""Show a foreground run up to its end, or print it as JSON lines, and handle signals meanwhile."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import Source
from desist.cli.exit_codes import ExitCode
from desist.cli.foreground.base import ForegroundRun
from desist.cli.foreground.signals import Signals, code_after
from desist.cli.options import print_json, write
from desist.cli.terminal.broken_pipe import watch_reader
from desist.console.format import seconds

if TYPE_CHECKING:
    from rich.console import Console

    from desist.console import RunView

__all__ = ["show_run"]

_SIGNAL_TEXTS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal was closed"}


def show_run(run: ForegroundRun, signals: Signals, *, input: str, as_json: bool, console: Console) -> ExitCode:
    """Show a run, or print it as JSON lines, and return the exit code.

    The first signal cancels the run, and reading continues up to the terminal event; a second one skips cleanup.
    """
    cancel = _Cancel(run, console)
    signals.to(cancel.on_signal)
    with watch_reader(cancel.on_reader_left):
        last = _print_events(run) if as_json else _show(run, cancel, input, console)
    if last is None:  # the connection was lost, and the server has restarted without the run
        return ExitCode.error
    if as_json:
        print_json(run.output())
    return _code(last, cancel)


def _print_events(run: ForegroundRun) -> Any:
    last = None
    with contextlib.closing(run.events()) as events:
        for item in events:
            print_json(item.plain())
            last = item.event if item.event.run_id == run.run_id else last
    return last


def _show(run: ForegroundRun, cancel: _Cancel, input: str, console: Console) -> Any:
    from desist.cli.foreground.result_panel import result_panel
    from desist.console import RunView

    last = None
    view: RunView = RunView(console, run.run_id, input=input, show_end=False, hint=cancel.hint)
    with view, contextlib.closing(run.events()) as events:
        for item in events:
            view.take(item.event)
            last = item.event if item.event.run_id == run.run_id else last
    if last is not None:
        console.print(result_panel(last, time.monotonic() - run.began_at, console))
    return last


def _code(last: Any, cancel: _Cancel) -> ExitCode:
    if last.is_cancelled:
        return ExitCode.ended_differently if cancel.number is None else code_after(cancel.number)
    return ExitCode.error if last.is_error or not last.is_terminal else ExitCode.ok


class _Cancel:
    """Cancels the run at a signal and reports the progress."""

    def __init__(self, run: ForegroundRun, console: Console) -> None:
        self._run, self._console = run, console
        self._requested_at = 0.0
        self._forced = False
        self.number: int | None = None  #: of the first signal

    def on_signal(self, number: int, count: int) -> None:
        """Handle a signal. Called in the thread of `Signals`."""
        text = _SIGNAL_TEXTS[signal.Signals(number)]
        source = Source.interrupt if number == signal.SIGINT else Source.shutdown
        self._forced = count > 1
        if self.number is None:
            self.number, self._requested_at = number, time.monotonic()
        error = self._run.cancel(source, text if count == 1 else f"{text}, again", force=self._forced)
        if error is not None:
            write(f"not cancelled: {error}", error=True)
        elif not self._console.is_terminal:
            more = "no time is left for cleanup" if self._forced else "a second one leaves no time for cleanup"
            print(f"{text}: cancelling; {more}", file=sys.stderr, flush=True)

    def on_reader_left(self) -> None:
        """Cancel the run, because the reader of the output has gone."""
        self._run.cancel(Source.consumer_closed, "the reader of the output has closed the pipe", force=False)

    def hint(self) -> str:
        """Return the hint of the status line."""
        if self.number is None:
            return "Ctrl-C cancels it"
        since = f"cancelling for {seconds(time.monotonic() - self._requested_at)}"
        parts = [since, self._run.progress(), "forced" if self._forced else "Ctrl-C again skips cleanup"]
        return " · ".join(part for part in parts if part)
