"""Record a terminal as an SVG image: its first and last lines, without resources from the network."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text

from desist.console import RunView
from desist.console.screen import LiveScreen, Screen
from desist.exceptions import ConfigurationError

__all__ = ["Recording", "svg_of"]

WIDTH, FIRST, LAST = 96, 3, 38  #: columns, lines kept of the beginning, lines kept of the end


class Recording:
    """Records the output of a terminal.

    Raises:
        ConfigurationError: the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir() or path.is_dir():
            raise ConfigurationError(f"--record {path}: there is no such folder, or it is one: name a file to write")
        self._path = path
        self._shown = io.StringIO()
        self.console = Console(
            file=self._shown, force_terminal=True, color_system="truecolor", width=WIDTH, no_color=False, _environ={}
        )

    def view(self, run_id: str, input: str) -> RunView:
        """Return a view that writes to the recording, finished lines only."""

        def screen(status: Callable[[], RenderableType | None]) -> Screen:
            return LiveScreen(self.console, markdown=True, status=status, moving=False)

        return RunView(self.console, run_id, input=input, show_end=False, screen=screen)

    def save(self, command: str) -> None:
        """Write the image, with `command` after the prompt."""
        lines = self._shown.getvalue().rstrip("\n").split("\n")
        if len(lines) > FIRST + LAST + 5:  # a few more lines are kept: omitting them saves nothing
            lines = [*lines[:FIRST], "", "\x1b[2m  ⋮\x1b[0m", "", *lines[-LAST:]]
        drawn = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, _environ={})
        drawn.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        drawn.print(Text(""))
        drawn.print(Text.from_ansi("\n".join(lines)))
        try:
            self._path.write_text(svg_of(drawn), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--record {self._path}: {error.strerror}") from error


def svg_of(drawn: Console) -> str:
    """Return the recording of a console as SVG, without Rich's fonts, which would be fetched from the network."""
    svg = drawn.export_svg(title="desist", theme=MONOKAI, unique_id="desist")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
