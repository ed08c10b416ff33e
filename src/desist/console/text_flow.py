"""Streamed text, cut into what is finished for good and what may still change.

Only the open rest is drawn again and again; so a text of any length costs the same per token. `PlainTextFlow` is for
plain text, `MarkdownFlow` for Markdown. They know widths, not consoles.
"""

from __future__ import annotations

from typing import Protocol

from rich.cells import cell_len, get_character_cell_size
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.text import Text

__all__ = ["MarkdownFlow", "PlainTextFlow", "TextFlow"]

#: Characters after which a Markdown block is cut though it hasn't ended.
LONGEST_BLOCK = 4000


class TextFlow(Protocol):
    """A text that grows."""

    open: str  #: what may still change

    def settle(self, width: int) -> list[RenderableType]:
        """Take what is finished out of `open` and return it."""

    def finish(self) -> list[RenderableType]:
        """The text has ended: return the rest."""

    def preview(self) -> RenderableType:
        """Return `open` as it would look now."""


class PlainTextFlow:
    """Plain text: a line is finished when the next one has begun."""

    def __init__(self) -> None:
        self.open = ""

    def settle(self, width: int) -> list[RenderableType]:
        """Return the finished lines."""
        head, newline, rest = self.open.rpartition("\n")
        start = open_line(rest, width)
        told: list[RenderableType] = [Text(head)] if newline else []
        if start:
            told.append(Text(rest[:start].rstrip(" ")))
        self.open = rest[start:]
        return told

    def finish(self) -> list[RenderableType]:
        """Return the last line."""
        rest, self.open = self.open.rstrip(), ""
        return [Text(rest)] if rest else []

    def preview(self) -> RenderableType:
        """Return the open line."""
        return Text(self.open)


def open_line(text: str, width: int) -> int:
    """Return where the last line begins when `text`, one paragraph, is wrapped at `width` cells."""
    start = word = used = 0
    for index, char in enumerate(text):
        size = get_character_cell_size(char)
        if char == " ":
            word = index + 1
        elif used + size > width:
            start = word if word > start else index
            used = cell_len(text[start:index])
            if used + size > width:  # the word alone is too long: it is cut
                start, used = index, 0
        used += size
    return start


class MarkdownFlow:
    """Markdown: a block is finished when an empty line follows it, outside of a code fence."""

    def __init__(self) -> None:
        self.open = ""
        self._first = True

    def settle(self, width: int) -> list[RenderableType]:
        """Return the finished blocks."""
        end, fence = last_boundary(self.open)
        if not end and len(self.open) > LONGEST_BLOCK:
            return self._cut(fence)
        block, self.open = self.open[:end], self.open[end:]
        return self._render(block)

    def _cut(self, fence: str | None) -> list[RenderableType]:
        """Cut a block that won't end: at a line's end, else at a space, else anywhere."""
        end = (self.open.rfind("\n") + 1) or (self.open.rfind(" ") + 1) or len(self.open)
        block, rest = self.open[:end], self.open[end:]
        if fence is not None:  # close the fence here and open it again there
            block, rest = f"{block}\n{fence[:3]}", f"{fence}\n{rest}"
        self.open = rest
        return self._render(block)

    def finish(self) -> list[RenderableType]:
        """Return the last block."""
        block, self.open = self.open, ""
        told = self._render(block)
        self._first = True
        return told

    def preview(self) -> RenderableType:
        """Return the open block."""
        block = Markdown(self.open.strip("\n"))
        return block if self._first else Group(Text(""), block)

    def _render(self, block: str) -> list[RenderableType]:
        if not block.strip():
            return []
        gap: list[RenderableType] = [] if self._first else [Text("")]
        self._first = False
        return [*gap, Markdown(block.strip("\n"))]


def last_boundary(text: str) -> tuple[int, str | None]:
    """Return where the last finished block ends (0: nowhere), and the line of a fence that is still open at the end."""
    end, at, fence = 0, 0, None
    for line in text.splitlines(keepends=True):
        at += len(line)
        bare = line.strip()
        if fence is None and bare.startswith(("```", "~~~")):
            fence = bare
        elif fence is not None and bare.startswith(fence[:3]) and not bare.strip(fence[0]):
            fence = None
        elif fence is None and not bare and line.endswith("\n"):
            end = at
    return end, fence
