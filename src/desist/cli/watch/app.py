"""`WatchApp`: the screen of `desist watch` and its keys."""

from __future__ import annotations

import queue
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from desist.cli.client import LiveInfo, RunClient, RunInfo
from desist.cli.foreground.signals import Signals
from desist.cli.terminal.keys import each_key
from desist.cli.watch.canceller import Canceller
from desist.cli.watch.list_view import render_list
from desist.cli.watch.poller import Listener, Poller, Snapshot
from desist.cli.watch.run_view import heading, padded, run_lines
from desist.console import seconds
from desist.console.format import count

__all__ = ["WatchApp", "watch_screen"]

#: Seconds between two redraws without an event, since ages grow.
TICK = 0.25
_BELOW = 8  #: lines for the selected run, beneath the list


def watch_screen(client: RunClient, run_id: str | None, console: Console) -> dict[str, str]:
    """Show runs, or one run, until `q`; return the answer to each cancel by run id. Leaving cancels nothing."""
    watch = WatchApp(client, run_id, console)
    try:
        with (
            Signals(),
            each_key(watch.events.put),
            Live(watch.picture(), console=console, screen=True, auto_refresh=False, transient=True) as live,
        ):
            while watch.turn():
                live.update(watch.picture(), refresh=True)
    finally:
        watch.stop()
    return watch.canceller.answers


class WatchApp:
    """The state of the screen.

    Only the main thread draws and changes it. Other threads put keys into `events`, or "" to request a redraw.
    """

    def __init__(self, client: RunClient, run_id: str | None, console: Console) -> None:
        self._client, self._console = client, console
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._alone = run_id is not None  #: whether there is no list to return to
        self._selected = run_id
        self._open: Listener | None = None  #: follows the selected run while it has the whole screen
        self.poller = Poller(client, many=not self._alone, seen=lambda: self.events.put(""))
        self.canceller = Canceller(client, self._answered)
        if run_id is not None:
            self.select(run_id)
            self.press("enter")

    def stop(self) -> None:
        """Stop all threads. Pending cancels are completed first."""
        self._leave()
        self.poller.stop()
        self.canceller.finish()

    def _answered(self) -> None:
        self.poller.again()
        self.events.put("")

    def turn(self) -> bool:
        """Wait for an event and handle it; return False to leave."""
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
        runs, at = self.poller.snapshot.runs, self._selected_index()
        if key in ("up", "k", "down", "j") and self._open is None and runs:
            by = -1 if key in ("up", "k") else 1
            self.select(runs[min(max(0, at + by), len(runs) - 1)].run_id)
        elif key in ("enter", "right", "l") and self._open is None and self._selected is not None:
            self._open = Listener(self._client, self._selected, lambda: self.events.put(""))
        elif key in ("escape", "left", "h", "backspace") and not self._alone:
            self._leave()
        elif key in ("x", "X") and (run := self.run()) is not None:
            self.canceller.press(run)
        return key not in ("q", "Q")

    def _leave(self) -> None:
        if self._open is not None:
            self._open.stop()
        self._open = None

    def select(self, run_id: str) -> None:
        """Select a run: keys apply to it from now on."""
        self._selected = run_id
        self.poller.choose(run_id)

    def _selected_index(self) -> int:
        """Return the current index of the selected run, which changes as runs start and end."""
        ids = [run.run_id for run in self.poller.snapshot.runs]
        return ids.index(self._selected) if self._selected in ids else 0

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
        if snapshot.runs and self._open is None and self._selected not in {run.run_id for run in snapshot.runs}:
            self.select(snapshot.runs[0].run_id)
        run, height = self.run(), self._console.height
        if self._open is None:
            list_height = max(1, height - _BELOW - 6)
            lines = [self._title(snapshot), Text(""), *self._list(snapshot, list_height), Rule(style="dim")]
            lines += self._run(run, snapshot, _BELOW, Text(self._selected or "", style="dim"))
        else:
            lines = self._run(run, snapshot, height - 2, _state(self._selected or "", snapshot))
        return Group(*lines, self._answer(), self._keys())

    def _title(self, snapshot: Snapshot) -> RenderableType:
        live = sum(run.is_live for run in snapshot.runs)
        text = f"{count(live, 'live run')}, {len(snapshot.runs)} shown"
        return heading(Text(f"desist watch · {self._client.name}", style="bold"), _state(text, snapshot))

    def _list(self, snapshot: Snapshot, height: int) -> list[RenderableType]:
        if snapshot.runs:
            return [
                render_list(
                    self._console, snapshot.runs, self._selected_index(), height, stale=snapshot.lost is not None
                )
            ]
        text = "  no runs yet" if snapshot.lost is None else "  no answer yet"
        return padded([Text(""), Text(text, style="dim")], height + 1)

    def _run(self, run: RunInfo | None, snapshot: Snapshot, height: int, right: Text) -> list[RenderableType]:
        if run is not None:
            life = snapshot.life if run is snapshot.chosen else LiveInfo()
            tree = self._open.tree if self._open is not None else None
            return run_lines(run, life, tree, self._console, height, right)
        message = snapshot.gone or snapshot.lost or ("loading ..." if self._open is not None else "")
        return padded([Text(message, style="yellow")], height)

    def _answer(self) -> Text:
        style = "bold red" if self.canceller.failed else "yellow"
        return Text(self.canceller.message, style=style, no_wrap=True, overflow="ellipsis")

    def _keys(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        keys = {"x": "stops it", "q": "leaves"}
        if self._open is None:
            keys = {"↑↓": "select", "enter": "opens", **keys}
        elif not self._alone:
            keys = {"esc": "back", **keys}
        for key, text in keys.items():
            line.append(f" {key} ", style="reverse").append(f" {text}  ", style="dim")
        return line


def _state(text: str, snapshot: Snapshot) -> Text:
    if snapshot.lost is None or snapshot.lost_at is None:
        return Text(text, style="dim")
    return Text(f" lost for {seconds(time.monotonic() - snapshot.lost_at)}, trying again ", style="bold white on red")
