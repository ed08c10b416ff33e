"""Watching runs: many or one, on a screen with keys or as lines. Asks a depot again and again; changes nothing but
by `x`.
"""

from desist.cli.watching.lines import watch_lines
from desist.cli.watching.screen import watch_screen

__all__ = ["watch_lines", "watch_screen"]
