"""Watching runs: many or one, on a screen with keys or as lines. Asks a depot again and again; changes nothing but
by `x`.
"""

from desist.cli.watch.app import watch_screen
from desist.cli.watch.plain import watch_lines

__all__ = ["watch_lines", "watch_screen"]
