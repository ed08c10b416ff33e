"""The consoles of commands. A pipe gets very wide lines, so that no text is truncated for a program."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from desist.console.format import clean

__all__ = ["SafeConsole", "output_console"]

#: Columns of a pipe, for a table and for other output.
WIDE, NARROW = 10_000, 100


class SafeConsole(Console):
    """A console that removes control sequences from all text. Every command writes to one."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments with sanitized text. Rich's own control segments pass unchanged."""
        for piece in super().render(renderable, options):
            if piece.control or (piece.text.isascii() and piece.text.isprintable()):
                yield piece
            else:
                yield Segment(clean(piece.text), piece.style)


def output_console(*, stderr: bool = False, wide: bool = False) -> Console:
    """Return a console; with `wide`, for a table."""
    console = SafeConsole(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return SafeConsole(stderr=stderr, highlight=False, width=WIDE if wide else NARROW)
