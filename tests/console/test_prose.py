"""Streamed text is split into finished pieces without loss or repetition, for any division into chunks."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from desist.console.format import clean, milliseconds, one_line, seconds
from desist.console.text_flow import LONGEST_BLOCK, MarkdownFlow, PlainTextFlow, last_boundary, open_line

PIECES = st.lists(st.text(alphabet="ab 龍🐉\n`-", max_size=12), max_size=30)


def source(told: list[object]) -> str:
    return "\n".join(item.markup if isinstance(item, Markdown) else item.plain for item in told)  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(PIECES, st.integers(min_value=2, max_value=20))
@example([" `龍龍"], 4)
def test_no_character_of_plain_text_is_lost(pieces: list[str], width: int) -> None:
    """For any chunks and width, the output equals the text, except for spaces and line ends."""
    prose, told = PlainTextFlow(), []
    for piece in pieces:
        prose.open += piece
        told += prose.settle(width)
        assert "\n" not in prose.open
        assert cell_len(prose.open.strip(" ")) <= width
    told += prose.finish()
    assert "".join(source(told).split()) == "".join("".join(pieces).split())


@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_no_character_of_markdown_is_lost(pieces: list[str]) -> None:
    """The same for Markdown blocks."""
    prose, told = MarkdownFlow(), []
    for piece in pieces:
        prose.open += piece
        told += prose.settle(40)
    told += prose.finish()
    assert "".join(source(told).split()) == "".join("".join(pieces).split())


@pytest.mark.parametrize(
    ("text", "width", "start"),
    [("", 5, 0), ("abc", 5, 0), ("abc def", 5, 4), ("abcdefg", 5, 5), ("龍龍龍", 5, 2), ("a bcdefgh", 5, 7)],
)
def test_the_open_line_begins_where_wrapping_breaks(text: str, width: int, start: int) -> None:
    """Words wrap whole, longer ones are folded, wide characters count twice."""
    assert open_line(text, width) == start


def test_an_empty_line_in_a_code_fence_ends_no_block() -> None:
    """A block ends at an empty line only outside of a fence."""
    text = "one\n\n```python\na = 1\n\nb = 2\n"
    assert last_boundary(text) == (5, "```python")
    assert last_boundary(text + "```\n\n") == (len(text) + 5, None)


def test_an_endless_block_is_cut_and_its_fence_is_opened_again() -> None:
    """A text without empty lines stays cheap to draw, and code stays code."""
    prose = MarkdownFlow()
    prose.open = "```python\n" + "x = 1\n" * LONGEST_BLOCK
    (first,) = prose.settle(80)
    assert isinstance(first, Markdown) and first.markup.endswith("```")
    assert prose.open == "```python\n"


def test_finished_blocks_are_one_empty_line_apart() -> None:
    """Blocks look as if they had been rendered together."""
    prose = MarkdownFlow()
    prose.open = "one\n\ntwo\n\nthree"
    told = [*prose.settle(20), *prose.finish()]
    console = Console(file=io.StringIO(), width=20)
    for item in told:
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
