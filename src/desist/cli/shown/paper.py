"""Where commands write: the terminal; or a pipe, as wide as the text is, so that nothing is cut off for a program."""

from __future__ import annotations

from rich.console import Console

__all__ = ["paper"]

#: Columns of a pipe: of a table, and of everything else.
WIDE, NARROW = 10_000, 100


def paper(*, stderr: bool = False, wide: bool = False) -> Console:
    """Return a console; `wide` for a table."""
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, width=WIDE if wide else NARROW)
