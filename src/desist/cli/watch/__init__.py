"""`desist watch`: show many runs or one, on a screen with keys or as lines. Only the `x` key cancels."""

from desist.cli.watch.plain import watch_lines
from desist.cli.watch.screen import watch_screen

__all__ = ["watch_lines", "watch_screen"]
