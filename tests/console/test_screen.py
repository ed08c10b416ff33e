"""Speakers and screens: branches don't interleave, a terminal gets each line once, a pipe gets no control codes."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from desist.console.run_view import RunView
from desist.console.screen import LiveScreen, PlainScreen
from desist.console.speakers import SpeakerQueue

CONTROL = re.compile(r"\x1b\[[0-?]*[a-zA-Z]")


def plain() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80), file


def terminal(width: int = 40) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, height=20, force_terminal=True, _environ={}), file


def test_concurrent_branches_are_rendered_one_after_the_other() -> None:
    """The first speaker is rendered live, the second after the first has ended, both completely."""
    console, file = plain()
    speakers = SpeakerQueue(PlainScreen(console))
    for key, text in [("a", "one "), ("b", "1 "), ("a", "two"), ("b", "2")]:
        speakers.add_text(key, text)
    assert file.getvalue() == "one two"
    speakers.line("b", Text("done b"))
    speakers.end("b")
    assert file.getvalue() == "one two"
    speakers.end("a")
    assert file.getvalue() == "one two\n1 2\ndone b\n"


def test_held_speakers_are_rendered_when_they_have_ended() -> None:
    """Without streaming, the text of a step is rendered in one piece, and lines keep their order."""
    console, file = plain()
    speakers = SpeakerQueue(PlainScreen(console), held=True)
    speakers.add_text("a", "one ")
    speakers.line("a", Text("tool"))
    speakers.add_text("a", "two")
    assert file.getvalue() == ""
    speakers.end("a")
    assert file.getvalue() == "one \ntool\ntwo\n"


@pytest.mark.parametrize("markdown", [True, False])
def test_the_cost_of_a_long_text_is_linear(markdown: bool) -> None:
    """Of 10,000 lines in small chunks, each line is printed once, not again for each chunk."""
    console, file = terminal()
    screen = LiveScreen(console, markdown=markdown, status=lambda: Text("running"))
    screen.start()
    for number in range(10_000):
        screen.write(f"line {number}")
        screen.write("\n\n")
    screen.stop()
    shown = CONTROL.sub("", file.getvalue())
    assert all(f"line {number}" in shown for number in (0, 4_999, 9_999))
    assert len(file.getvalue()) < 10_000 * 150


def test_the_live_region_goes_away() -> None:
    """At the end the cursor is shown again, and the status line is removed."""
    console, file = terminal()
    screen = LiveScreen(console, markdown=False, status=lambda: Text("running"))
    screen.start()
    screen.write("some words")
    screen.stop()
    screen.stop()
    last = file.getvalue().rpartition("some words")[2]
    assert "\x1b[?25h" in last
    assert "running" not in last.rpartition("\x1b[2K")[2]


@pytest.mark.parametrize("width", [3, 8, 20])
def test_narrow_terminals_and_wide_characters(width: int) -> None:
    """No line is wider than the terminal, and no text is lost."""
    console, file = terminal(width)
    screen = LiveScreen(console, markdown=False, status=lambda: None, moving=False)
    for piece in ("龍と🐉 ", "averyveryverylongword ", "ok"):
        screen.write(piece)
    screen.stop()
    shown = CONTROL.sub("", file.getvalue())
    assert "".join(shown.split()) == "龍と🐉averyveryverylongwordok"
    assert all(Text(line).cell_len <= width for line in shown.splitlines())


class InterruptedFile(io.StringIO):
    """A terminal at which Ctrl-C is pressed when the input of the run is shown."""

    def write(self, text: str) -> int:
        """Write, then raise KeyboardInterrupt after the input."""
        written = super().write(text)
        if "the input" in text:
            raise KeyboardInterrupt
        return written


def test_ctrl_c_while_the_view_opens_restores_the_terminal() -> None:
    """If Ctrl-C interrupts the opening of a view, the live region ends and the cursor is shown again."""
    file = InterruptedFile()
    console = Console(file=file, width=80, height=20, force_terminal=True, _environ={})
    view = RunView(console, "r", input="the input")
    with pytest.raises(KeyboardInterrupt), view:
        raise AssertionError("the view was opened")
    assert file.getvalue().rfind("\x1b[?25h") > file.getvalue().rfind("\x1b[?25l") > -1
