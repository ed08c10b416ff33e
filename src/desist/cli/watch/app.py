"""Watching on a screen: what is drawn, and what the keys do."""

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

#: Seconds between two pictures while nothing happens: ages grow.
TICK = 0.25
_BELOW = 8  #: lines for the selected run, beneath the list


def watch_screen(client: RunClient, run_id: str | None, console: Console) -> dict[str, str]:
    """Show runs, or one run, until `q`; return what was answered to each stop. Leaving stops nothing."""
    watch = WatchApp(client, run_id, console)
    try:
        with (
            Signals(),
            each_key(watch.rings.put),
            Live(watch.picture(), console=console, screen=True, auto_refresh=False, transient=True) as live,
        ):
            while watch.turn():
                live.update(watch.picture(), refresh=True)
    finally:
        watch.stop()
    return watch.stopper.said


class WatchApp:
    """What is watched, and where the selection is. Drawn and changed by the main thread; others put keys into `rings`,
    or "" for something new.
    """

    def __init__(self, client: RunClient, run_id: str | None, console: Console) -> None:
        self._client, self._console = client, console
        self.rings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._alone = run_id is not None  #: there is no list to go back to
        self._selected = run_id
        self._open: Listener | None = None  #: follows the selected run, if that has the whole screen
        self.lookout = Poller(client, many=not self._alone, seen=lambda: self.rings.put(""))
        self.stopper = Canceller(client, self._answered)
        if run_id is not None:
            self.select(run_id)
            self.press("enter")

    def stop(self) -> None:
        """End it; what was asked for is still answered."""
        self._leave()
        self.lookout.stop()
        self.stopper.finish()

    def _answered(self) -> None:
        self.lookout.again()
        self.rings.put("")

    def turn(self) -> bool:
        """Wait for something to happen, and take it; return False if that was the end."""
        try:
            keys = [self.rings.get(timeout=TICK)]
            while not self.rings.empty():
                keys.append(self.rings.get())
        except queue.Empty:
            return True
        return all(map(self.press, keys))

    # -- keys

    def press(self, key: str) -> bool:
        """A key was pressed; return False if it leaves."""
        runs, at = self.lookout.snapshot.runs, self._selected_index()
        if key in ("up", "k", "down", "j") and self._open is None and runs:
            by = -1 if key in ("up", "k") else 1
            self.select(runs[min(max(0, at + by), len(runs) - 1)].run_id)
        elif key in ("enter", "right", "l") and self._open is None and self._selected is not None:
            self._open = Listener(self._client, self._selected, lambda: self.rings.put(""))
        elif key in ("escape", "left", "h", "backspace") and not self._alone:
            self._leave()
        elif key in ("x", "X") and (run := self.run()) is not None:
            self.stopper.press(run)
        return key not in ("q", "Q")

    def _leave(self) -> None:
        if self._open is not None:
            self._open.stop()
        self._open = None

    def select(self, run_id: str) -> None:
        """Keys are about this run from now on."""
        self._selected = run_id
        self.lookout.choose(run_id)

    def _selected_index(self) -> int:
        """Return where the selected run stands now: runs come and go above it."""
        ids = [run.run_id for run in self.lookout.snapshot.runs]
        return ids.index(self._selected) if self._selected in ids else 0

    def run(self) -> RunInfo | None:
        """Return the run that keys are about."""
        look = self.lookout.snapshot
        return next((run for run in (look.chosen, *look.runs) if run and run.run_id == self._selected), None)

    # -- the picture

    def picture(self) -> RenderableType:
        """Return what there is to see."""
        look = self.lookout.snapshot
        for run in (look.chosen, *look.runs):
            if run is not None:
                self.stopper.seen(run)
        if look.runs and self._open is None and self._selected not in {run.run_id for run in look.runs}:
            self.select(look.runs[0].run_id)
        run, height = self.run(), self._console.height
        if self._open is None:
            room = max(1, height - _BELOW - 6)
            lines = [self._title(look), Text(""), *self._list(look, room), Rule(style="dim")]
            lines += self._run(run, look, _BELOW, Text(self._selected or "", style="dim"))
        else:
            lines = self._run(run, look, height - 2, _state(self._selected or "", look))
        return Group(*lines, self._answer(), self._keys())

    def _title(self, look: Snapshot) -> RenderableType:
        live = sum(run.is_live for run in look.runs)
        words = f"{count(live, 'live run')}, {len(look.runs)} shown"
        return heading(Text(f"desist watch · {self._client.name}", style="bold"), _state(words, look))

    def _list(self, look: Snapshot, height: int) -> list[RenderableType]:
        if look.runs:
            return [render_list(self._console, look.runs, self._selected_index(), height, stale=look.lost is not None)]
        words = "  no runs yet" if look.lost is None else "  nothing was seen yet"
        return padded([Text(""), Text(words, style="dim")], height + 1)

    def _run(self, run: RunInfo | None, look: Snapshot, height: int, right: Text) -> list[RenderableType]:
        if run is not None:
            life = look.life if run is look.chosen else LiveInfo()
            story = self._open.story if self._open is not None else None
            return run_lines(run, life, story, self._console, height, right)
        trouble = look.gone or look.lost or ("looking ..." if self._open is not None else "")
        return padded([Text(trouble, style="yellow")], height)

    def _answer(self) -> Text:
        style = "bold red" if self.stopper.failed else "yellow"
        return Text(self.stopper.words, style=style, no_wrap=True, overflow="ellipsis")

    def _keys(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        keys = {"x": "stops it", "q": "leaves"}
        if self._open is None:
            keys = {"↑↓": "select", "enter": "opens", **keys}
        elif not self._alone:
            keys = {"esc": "back", **keys}
        for key, words in keys.items():
            line.append(f" {key} ", style="reverse").append(f" {words}  ", style="dim")
        return line


def _state(words: str, look: Snapshot) -> Text:
    if look.lost is None or look.lost_at is None:
        return Text(words, style="dim")
    return Text(f" lost for {seconds(time.monotonic() - look.lost_at)}, trying again ", style="bold white on red")
