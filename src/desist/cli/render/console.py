"""Where commands write: the terminal; or a pipe, as wide as the text is, so that nothing is cut off for a program."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from desist.console.format import clean

__all__ = ["Paper", "output_console"]

#: Columns of a pipe: of a table, and of everything else.
WIDE, NARROW = 10_000, 100


class Paper(Console):
    """A console on which text has no power over the terminal, wherever it comes from. Every command writes on one."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the pieces, the text of each cleaned; what Rich itself does to the terminal isn't text."""
        for piece in super().render(renderable, options):
            if piece.control or (piece.text.isascii() and piece.text.isprintable()):
                yield piece
            else:
                yield Segment(clean(piece.text), piece.style)


def output_console(*, stderr: bool = False, wide: bool = False) -> Console:
    """Return a console; `wide` for a table."""
    console = Paper(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return Paper(stderr=stderr, highlight=False, width=WIDE if wide else NARROW)
