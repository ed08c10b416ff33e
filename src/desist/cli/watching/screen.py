"""Watching on a screen: what is drawn, and what the keys do."""

from __future__ import annotations

import queue

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from desist.cli.depot import Depot, RunInfo
from desist.cli.depot.story import Story
from desist.cli.keys import each_key
from desist.cli.running.signals import Signals
from desist.cli.watching.list_picture import list_picture
from desist.cli.watching.listener import Listener
from desist.cli.watching.lookout import Lookout
from desist.cli.watching.run_picture import run_picture
from desist.cli.watching.stopper import Stopper

__all__ = ["Watch", "watch_screen"]

#: Seconds between two pictures while nothing happens: ages grow.
TICK = 0.25
_LEAVE = ("q", "Q")


def watch_screen(depot: Depot, run_id: str | None, console: Console) -> dict[str, str]:
    """Show runs, or one run, until `q`; return what was answered to each stop. Leaving stops nothing."""
    watch = Watch(depot, run_id, console)
    try:
        with (
            Signals(),
            each_key(watch.typed),
            Live(watch.picture(), console=console, screen=True, auto_refresh=False, transient=True) as live,
        ):
            watch.start()
            while watch.turn():
                live.update(watch.picture(), refresh=True)
    finally:
        watch.stop()
    return watch.stopper.said


class Watch:
    """What is watched, and where the selection is. Drawn and changed by the main thread; others ring it."""

    def __init__(self, depot: Depot, run_id: str | None, console: Console) -> None:
        self._depot, self._console = depot, console
        self._rings: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._alone = run_id is not None  #: there is no list to go back to
        self._open = run_id
        self._selected: str | None = run_id
        self._listener: Listener | None = None
        self._lookout = Lookout(depot, many=not self._alone, seen=self._ring)
        self.stopper = Stopper(depot, self._answered)

    def start(self) -> None:
        """Begin to look."""
        self._lookout.start()
        if self._open is not None:
            self._enter(self._open)

    def stop(self) -> None:
        """End it; what was asked for is still answered."""
        if self._listener is not None:
            self._listener.stop()
        self._lookout.stop()
        self.stopper.finish()

    # -- what rings

    def typed(self, key: str) -> None:
        """A key was pressed; from any thread."""
        self._rings.put(key)

    def _ring(self) -> None:
        self._rings.put("")

    def _answered(self) -> None:
        self._lookout.again()
        self._ring()

    def turn(self) -> bool:
        """Wait for something to happen, and take it; return False if that was the end."""
        try:
            keys = [self._rings.get(timeout=TICK)]
            while not self._rings.empty():
                keys.append(self._rings.get())
        except queue.Empty:
            return True
        return all(self._key(key) for key in keys)

    # -- keys

    def _key(self, key: str) -> bool:
        if key in _LEAVE:
            return False
        if key in ("up", "k"):
            self._move(-1)
        elif key in ("down", "j"):
            self._move(1)
        elif key in ("enter", "right", "l") and self._open is None and self._run() is not None:
            self._enter(str(self._selected))
        elif key in ("escape", "left", "h", "backspace") and self._open is not None and not self._alone:
            self._leave()
        elif key in ("x", "X") and (run := self._run()) is not None:
            self.stopper.press(run)
        return True

    def _move(self, by: int) -> None:
        runs = self._lookout.look.runs
        if self._open is None and runs:
            place = min(max(0, self._place() + by), len(runs) - 1)
            self._select(runs[place].run_id)

    def _place(self) -> int:
        """Return where the selected run stands now: runs come and go above it."""
        ids = [run.run_id for run in self._lookout.look.runs]
        return ids.index(self._selected) if self._selected in ids else 0

    def _select(self, run_id: str) -> None:
        self._selected = run_id
        self._lookout.choose(run_id)

    def _run(self) -> RunInfo | None:
        """Return the run that keys are about."""
        look = self._lookout.look
        if look.chosen is not None and look.chosen.run_id == self._selected:
            return look.chosen
        return next((run for run in look.runs if run.run_id == self._selected), None)

    def _enter(self, run_id: str) -> None:
        self._open = run_id
        self._select(run_id)
        self._listener = Listener(self._depot, run_id, self._ring)

    def _leave(self) -> None:
        self._open = None
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    # -- the picture

    def picture(self) -> RenderableType:
        """Return what there is to see."""
        look = self._lookout.look
        for run in (look.chosen, *look.runs):
            if run is not None:
                self.stopper.seen(run)
        if self._open is not None:
            story = self._listener.story if self._listener is not None else Story()
            return run_picture(self._console, self._open, look, story, self._words())
        if look.runs and self._selected not in {run.run_id for run in look.runs}:
            self._select(look.runs[0].run_id)
        return list_picture(self._console, self._depot.name, look, self._place(), self._words())

    def _words(self) -> RenderableType:
        """Return the last two lines: what was answered, and what the keys do."""
        answer = Text(no_wrap=True, overflow="ellipsis")
        answer.append(self.stopper.words, style="bold red" if self.stopper.failed else "yellow")
        line = Text(no_wrap=True, overflow="ellipsis")
        keys: tuple[tuple[str, str], ...] = (("x", "stops it"), ("q", "leaves"))
        if self._open is None:
            keys = (("↑↓", "select"), ("enter", "opens"), *keys)
        elif not self._alone:
            keys = (("esc", "back"), *keys)
        for key, words in keys:
            line.append(f" {key} ", style="reverse")
            line.append(f" {words}  ", style="dim")
        return Group(answer, line)
