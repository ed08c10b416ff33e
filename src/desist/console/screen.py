"""The output of a view: a terminal with a live region at the bottom, or a plain stream without control codes.

Finished text is printed once, above the live region, which holds the open line and the status line. A screen has no
notion of runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from desist.console.format import clean
from desist.console.text_flow import TextFlow

__all__ = ["LiveScreen", "PlainScreen", "Screen", "Tail", "screen_for"]

FRAMES = 12  #: a second
#: Seconds and characters of streamed text after which finished lines are moved out of the live region.
SETTLE_SECONDS, SETTLE_CHARACTERS = 0.06, 2000


class Screen(Protocol):
    """The output of a view."""

    def start(self) -> None:
        """Start the screen."""

    def write(self, text: str) -> None:
        """Write a piece of streamed text."""

    def line(self, what: RenderableType) -> None:
        """Write a finished renderable on a line of its own."""

    def end_text(self) -> None:
        """End the streamed text: the next output begins on a new line."""

    def stop(self) -> None:
        """Stop the screen. A second call has no effect."""


def screen_for(console: Console, *, markdown: bool, status: Callable[[], RenderableType | None]) -> Screen:
    """Return a live screen for a terminal, otherwise a plain one."""
    if console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter:
        return LiveScreen(console, markdown=markdown, status=status)
    return PlainScreen(console)


class PlainScreen:
    """A screen on a file, a pipe or a dumb terminal: text is written as it arrives."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._column = 0

    def start(self) -> None:
        """Do nothing: a plain stream needs no setup."""

    def write(self, text: str) -> None:
        text = clean(text, self._console.encoding)
        if text:
            self._console.out(text, end="", highlight=False)
            self._column = 0 if text.endswith("\n") else 1

    def line(self, what: RenderableType) -> None:
        self.end_text()
        self._console.print(what, highlight=False, soft_wrap=isinstance(what, Text))

    def end_text(self) -> None:
        if self._column:
            self._console.out("", highlight=False)
            self._column = 0

    def stop(self) -> None:
        self.end_text()


class LiveScreen:
    """A screen on a terminal. `moving=False` omits the live region, for a recording."""

    def __init__(
        self,
        console: Console,
        *,
        markdown: bool,
        status: Callable[[], RenderableType | None],
        moving: bool = True,
    ) -> None:
        self._console = console
        self._status = status
        self._text = TextFlow(markdown=markdown)
        self._settled_at = 0.0
        self._live: Live | None = None
        if moving:
            self._live = Live(LiveRegion(self._live_region), console=console, refresh_per_second=FRAMES, transient=True)

    def start(self) -> None:
        if self._live is not None:
            self._live.start(refresh=True)

    def write(self, text: str) -> None:
        """Append to the open text; print the finished lines, a few times a second."""
        self._text.open += clean(text, self._console.encoding)
        now = time.monotonic()
        if now - self._settled_at >= SETTLE_SECONDS or len(self._text.open) > SETTLE_CHARACTERS:
            self._settled_at = now
            self._print(self._text.settle())

    def line(self, what: RenderableType) -> None:
        self.end_text()
        self._print([what])

    def end_text(self) -> None:
        self._print([*self._text.settle(), *self._text.finish()])

    def stop(self) -> None:
        self.end_text()
        if self._live is not None:
            self._live.stop()

    def _print(self, renderables: list[RenderableType]) -> None:
        if renderables:
            self._console.print(Group(*renderables), highlight=False)

    def _live_region(self) -> RenderableType:
        """Return the live region. Also called by the thread that refreshes."""
        status = self._status()
        parts: list[RenderableType] = [Tail(self._text.preview())] if self._text.open.strip() else []
        return Group(*parts, *([Text(""), status] if status is not None else []))


class LiveRegion:
    """The live region. It is rebuilt at each draw, also when a line is printed above it."""

    def __init__(self, make: Callable[[], RenderableType]) -> None:
        self._make = make

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._make()


class Tail:
    """The last lines of a renderable, as many as fit its place in a layout, or the terminal."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or max(console.height - 4, 1)
        lines = console.render_lines(self._whole, options.update(height=None), pad=False)
        for line in lines[-height:]:
            yield from line
            yield Segment.line()
