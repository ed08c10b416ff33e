"""Showing a run to its end, or telling it as JSON lines; and what Ctrl-C does meanwhile."""

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

_WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal is gone"}


def show_run(run: ForegroundRun, signals: Signals, *, input: str, as_json: bool, console: Console) -> ExitCode:
    """Show a run, or tell it as JSON lines, and return the exit code.

    One signal cancels the run, and the end is read as any other; a second one leaves no time for cleanup.
    """
    stop = _Stop(run, console)
    signals.to(stop.signalled)
    with watch_reader(stop.reader_left):
        last = _print_events(run) if as_json else _show(run, stop, input, console)
    if last is None:  # the server was lost and came back without it
        return ExitCode.error
    if as_json:
        print_json(run.output())
    return _code(last, stop)


def _print_events(run: ForegroundRun) -> Any:
    last = None
    with contextlib.closing(run.events()) as events:
        for told in events:
            print_json(told.plain())
            last = told.event if told.event.run_id == run.run_id else last
    return last


def _show(run: ForegroundRun, stop: _Stop, input: str, console: Console) -> Any:
    from desist.cli.foreground.result_panel import end_of
    from desist.console import RunView

    last = None
    view: RunView = RunView(console, run.run_id, input=input, show_end=False, hint=stop.hint)
    with view, contextlib.closing(run.events()) as events:
        for told in events:
            view.take(told.event)
            last = told.event if told.event.run_id == run.run_id else last
    if last is not None:
        console.print(end_of(last, time.monotonic() - run.began_at, console))
    return last


def _code(last: Any, stop: _Stop) -> ExitCode:
    if last.is_cancelled:
        return ExitCode.otherwise if stop.number is None else code_after(stop.number)
    return ExitCode.error if last.is_error or not last.is_terminal else ExitCode.ok


class _Stop:
    """Asks for the stop when a signal comes, and knows how that goes."""

    def __init__(self, run: ForegroundRun, console: Console) -> None:
        self._run, self._console = run, console
        self._asked_at = 0.0
        self._forced = False
        self.number: int | None = None  #: of the first signal

    def signalled(self, number: int, count: int) -> None:
        """A signal came; in the thread of the signals."""
        words = _WORDS[signal.Signals(number)]
        source = Source.interrupt if number == signal.SIGINT else Source.shutdown
        self._forced = count > 1
        if self.number is None:
            self.number, self._asked_at = number, time.monotonic()
        trouble = self._run.stop(source, words if count == 1 else f"{words}, again", force=self._forced)
        if trouble is not None:
            write(f"not stopped: {trouble}", error=True)
        elif not self._console.is_terminal:
            more = "no time is left for cleanup" if self._forced else "once more leaves no time for cleanup"
            print(f"{words}: stopping; {more}", file=sys.stderr, flush=True)

    def reader_left(self) -> None:
        """Nobody reads what is shown any more."""
        self._run.stop(Source.consumer_closed, "whoever read the output has left", force=False)

    def hint(self) -> str:
        """Return what stands at the foot."""
        if self.number is None:
            return "Ctrl-C stops it"
        since = f"stopping, asked {seconds(time.monotonic() - self._asked_at)} ago"
        parts = [since, self._run.doing(), "forced" if self._forced else "Ctrl-C again forces it"]
        return " · ".join(part for part in parts if part)
