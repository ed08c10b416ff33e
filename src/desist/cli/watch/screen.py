"""`WatchScreen`: the screen of `desist watch` and its keys. The screen shows a list of runs, or one run."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from desist.cli.client import LiveInfo, RunClient, RunInfo
from desist.cli.foreground.signals import Signals
from desist.cli.render.run_details import heading, render_run
from desist.cli.terminal.keys import each_key
from desist.cli.watch.canceller import Canceller
from desist.cli.watch.event_listener import EventListener
from desist.cli.watch.list_table import list_table
from desist.cli.watch.poller import Poller, Snapshot
from desist.console import seconds
from desist.console.format import count
from desist.console.screen import Tail

__all__ = ["WatchScreen", "watch_screen"]

#: Seconds between two redraws without an event, since ages grow.
TICK = 0.25
_DETAIL = 9  #: lines for the selected run, beneath the list


def watch_screen(client: RunClient, run_id: str | None, console: Console) -> dict[str, str]:
    """Show runs, or one run, until `q`; return the answer to each cancel by run id. Leaving cancels nothing."""
    watch = WatchScreen(client, run_id, console)
    live = Live(console=console, screen=True, auto_refresh=False, transient=True)
    try:
        with Signals(), each_key(watch.events.put):
            try:
                live.start()
                live.update(watch.picture(), refresh=True)
                while watch.turn():
                    live.update(watch.picture(), refresh=True)
            finally:
                live.stop()  # also if a signal has interrupted `start`, for which `with live` would do nothing
    finally:
        watch.stop()
    return watch.canceller.answers


class WatchScreen:
    """The state of the screen.

    Only the main thread draws and changes it. Other threads put keys into `events`, or "" to request a redraw.
    """

    def __init__(self, client: RunClient, run_id: str | None, console: Console) -> None:
        self._client, self._console = client, console
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._has_list = run_id is None
        self._selected = run_id
        self._listener: EventListener | None = None  #: follows the selected run while it has the whole screen
        self.poller = Poller(client, many=self._has_list, on_poll=self._redraw)
        self.canceller = Canceller(client, self._on_answer)
        if run_id is not None:
            self.select(run_id)
            self._open()

    def stop(self) -> None:
        """Stop all threads. Pending cancels are completed first."""
        self._close()
        self.poller.stop()
        self.canceller.finish()

    def _redraw(self) -> None:
        self.events.put("")

    def _on_answer(self) -> None:
        self.poller.poll_now()
        self._redraw()

    def turn(self) -> bool:
        """Wait for an event and handle all that are there; return False to leave."""
        try:
            keys = [self.events.get(timeout=TICK)]
            while not self.events.empty():
                keys.append(self.events.get())
        except queue.Empty:
            return True
        return all(map(self.press, keys))

    # -- keys

    def press(self, key: str) -> bool:
        """Handle a key; return False to leave."""
        if key in ("up", "k", "down", "j") and self._listener is None:
            self._move(-1 if key in ("up", "k") else 1)
        elif key in ("enter", "right", "l") and self._listener is None:
            self._open()
        elif key in ("escape", "left", "h", "backspace") and self._has_list:
            self._close()
        elif key in ("x", "X") and (run := self.run()) is not None:
            self.canceller.cancel(run)
        return key not in ("q", "Q")

    def _move(self, by: int) -> None:
        runs = self.poller.snapshot.runs
        if runs:
            self.select(runs[min(max(0, self._index(runs) + by), len(runs) - 1)].run_id)

    def select(self, run_id: str) -> None:
        """Select a run: keys apply to it from now on."""
        self._selected = run_id
        self.poller.choose(run_id)

    def _open(self) -> None:
        if self._selected is not None:
            self._listener = EventListener(self._client, self._selected, self._redraw)

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._listener = None

    def _index(self, runs: Sequence[RunInfo]) -> int:
        """Return the current index of the selected run, which changes as runs start and end."""
        return next((index for index, run in enumerate(runs) if run.run_id == self._selected), 0)

    def run(self) -> RunInfo | None:
        """Return the selected run."""
        snapshot = self.poller.snapshot
        return next((run for run in (snapshot.chosen, *snapshot.runs) if run and run.run_id == self._selected), None)

    # -- the picture

    def picture(self) -> RenderableType:
        """Return the renderable of the screen."""
        snapshot = self.poller.snapshot
        for run in (snapshot.chosen, *snapshot.runs):
            if run is not None:
                self.canceller.seen(run)
        if snapshot.runs and self._listener is None and self._selected not in {run.run_id for run in snapshot.runs}:
            self.select(snapshot.runs[0].run_id)
        middle = self._list(snapshot) if self._listener is None else [Layout(self._run(snapshot, whole=True))]
        layout = Layout()
        layout.split_column(
            Layout(self._title(snapshot), size=2),
            *middle,
            Layout(self.canceller.text(), size=1),
            Layout(self._keys(), size=1),
        )
        return layout

    def _title(self, snapshot: Snapshot) -> Text:
        line = Text(f"desist watch · {self._client.name}", style="bold", no_wrap=True, overflow="ellipsis")
        if snapshot.lost_at is not None:
            lost = f"lost for {seconds(time.monotonic() - snapshot.lost_at)}, trying again"
            return line.append("  ").append(f" {lost} ", style="white on red")
        if self._has_list:
            live = sum(run.is_live for run in snapshot.runs)
            line.append(f" · {count(live, 'live run')}, {len(snapshot.runs)} shown", style="not bold dim")
        return line

    def _list(self, snapshot: Snapshot) -> list[Layout]:
        runs: RenderableType = Text("\n  no runs yet" if snapshot.lost is None else "\n  no answer yet", style="dim")
        if snapshot.runs:
            height = max(1, self._console.height - _DETAIL - 6)
            selected = self._index(snapshot.runs)
            runs = list_table(self._console, snapshot.runs, selected, height, stale=snapshot.lost is not None)
        detail = Group(Rule(style="dim"), self._run(snapshot, whole=False))
        return [Layout(runs), Layout(detail, size=_DETAIL + 1)]

    def _run(self, snapshot: Snapshot, *, whole: bool) -> RenderableType:
        """Return what is known of the selected run: with `whole`, its steps and the end of its text, too."""
        run = self.run()
        if run is None:
            return Text(snapshot.gone or snapshot.lost or ("loading ..." if whole else ""), style="yellow")
        live = snapshot.live if run is snapshot.chosen else LiveInfo()
        if self._listener is None:
            return heading(run, live, self._console)
        return Tail(render_run(run, live, self._console, self._listener.tree))

    def _keys(self) -> Text:
        keys = {"x": "cancels it", "q": "leaves"}
        if self._listener is None:
            keys = {"↑↓": "select", "enter": "opens", **keys}
        elif self._has_list:
            keys = {"esc": "back", **keys}
        line = Text(no_wrap=True, overflow="ellipsis")
        for key, text in keys.items():
            line.append(f" {key} ", style="reverse").append(f" {text}  ", style="dim")
        return line
