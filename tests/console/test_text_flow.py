"""Streamed text is split into finished pieces without loss or repetition, for any division into chunks."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from desist.console.format import clean, milliseconds, one_line, seconds
from desist.console.text_flow import LONGEST_OPEN, TextFlow, last_boundary

PIECES = st.lists(st.text(alphabet="ab 龍🐉\n`-", max_size=12), max_size=30)


def source(shown: list[object]) -> str:
    return "\n".join(item.markup if isinstance(item, Markdown) else item.plain for item in shown)  # type: ignore[union-attr]


@pytest.mark.parametrize("markdown", [True, False])
@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_no_character_is_lost(markdown: bool, pieces: list[str]) -> None:
    """For any chunks, the output equals the text, except for spaces and line ends."""
    flow, shown = TextFlow(markdown=markdown), []
    for piece in pieces:
        flow.open += piece
        shown += flow.settle()
        assert markdown or "\n" not in flow.open
    shown += flow.finish()
    assert "".join(source(shown).split()) == "".join("".join(pieces).split())


def test_an_endless_line_is_cut_at_a_space() -> None:
    """A line without an end stays cheap to draw."""
    flow = TextFlow(markdown=False)
    flow.open = "word " * LONGEST_OPEN + "rest"
    (first,) = flow.settle()
    assert isinstance(first, Text) and first.plain == "word " * LONGEST_OPEN
    assert flow.open == "rest"


def test_an_empty_line_in_a_code_fence_ends_no_block() -> None:
    """A block ends at an empty line only outside of a fence."""
    text = "one\n\n```python\na = 1\n\nb = 2\n"
    assert last_boundary(text) == (5, "```python")
    assert last_boundary(text + "```\n\n") == (len(text) + 5, None)


def test_an_endless_block_is_cut_and_its_fence_is_opened_again() -> None:
    """A text without empty lines stays cheap to draw, and code stays code."""
    flow = TextFlow(markdown=True)
    flow.open = "```python\n" + "x = 1\n" * LONGEST_OPEN
    (first,) = flow.settle()
    assert isinstance(first, Markdown) and first.markup.endswith("```")
    assert flow.open == "```python\n"


def test_finished_blocks_are_one_empty_line_apart() -> None:
    """Blocks look as if they had been rendered together."""
    flow = TextFlow(markdown=True)
    flow.open = "one\n\ntwo\n\nthree"
    shown = [*flow.settle(), *flow.finish()]
    console = Console(file=io.StringIO(), width=20)
    for item in shown:
        console.print(item)
    assert [line.strip() for line in console.file.getvalue().splitlines()] == ["one", "", "two", "", "three"]  # type: ignore[attr-defined]


def test_text_can_not_control_the_terminal() -> None:
    """Escape sequences, bells, carriage returns and bidirectional controls of a model don't reach the terminal."""
    evil = "a\x1b[31mb\x1b]0;title\x07c\rd\x07e\x9bf\u202eg\r\nh\ti"
    assert clean(evil) == "abcdef g\nh\ti"


def test_a_poor_encoding_gets_question_marks() -> None:
    """Characters that the console can't encode become question marks."""
    assert clean("dragon 🐉", "ascii") == "dragon ?"


def test_durations() -> None:
    """Durations are short, in a suitable unit."""
    assert [seconds(0.417), seconds(8.06), seconds(123.4)] == ["0.42 s", "8.1 s", "2 min 03 s"]
    assert [milliseconds(0.00042), milliseconds(0.0123), milliseconds(2.5)] == ["0.4 ms", "12 ms", "2,500 ms"]
    assert one_line("a\nb" * 200, 10) == "a ba ba b…"
    assert Text(one_line("x")).plain == "x"
