"""Split streamed text into a finished part and an open part that may still change.

Only the open part is redrawn, so the cost per token doesn't grow with the length of the text. `PlainTextFlow` is for
plain text, `MarkdownFlow` for Markdown. Neither needs a console, only a width.
"""

from __future__ import annotations

from typing import Protocol

from rich.cells import cell_len, get_character_cell_size
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.text import Text

__all__ = ["MarkdownFlow", "PlainTextFlow", "TextFlow"]

#: The length in characters from which an unfinished Markdown block is split.
LONGEST_BLOCK = 4000


class TextFlow(Protocol):
    """A growing text."""

    open: str  #: the part that may still change

    def settle(self, width: int) -> list[RenderableType]:
        """Remove the finished part from `open` and return it."""

    def finish(self) -> list[RenderableType]:
        """End the text and return the rest."""

    def preview(self) -> RenderableType:
        """Return the rendering of `open`."""


class PlainTextFlow:
    """Plain text: a line is finished when the next one has begun."""

    def __init__(self) -> None:
        self.open = ""

    def settle(self, width: int) -> list[RenderableType]:
        head, newline, rest = self.open.rpartition("\n")
        start = open_line(rest, width)
        rendered: list[RenderableType] = [Text(head)] if newline else []
        if start:
            rendered.append(Text(rest[:start].rstrip(" ")))
        self.open = rest[start:]
        return rendered

    def finish(self) -> list[RenderableType]:
        rest, self.open = self.open.rstrip(), ""
        return [Text(rest)] if rest else []

    def preview(self) -> RenderableType:
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
            if used + size > width:  # a single word wider than the line is split
                start, used = index, 0
        used += size
    return start


class MarkdownFlow:
    """Markdown: a block is finished when an empty line follows it, outside of a code fence."""

    def __init__(self) -> None:
        self.open = ""
        self._first = True

    def settle(self, width: int) -> list[RenderableType]:
        end, fence = last_boundary(self.open)
        if not end and len(self.open) > LONGEST_BLOCK:
            return self._cut(fence)
        block, self.open = self.open[:end], self.open[end:]
        return self._render(block)

    def _cut(self, fence: str | None) -> list[RenderableType]:
        """Split a block that exceeds the limit: at the end of a line, else at a space, else anywhere."""
        end = (self.open.rfind("\n") + 1) or (self.open.rfind(" ") + 1) or len(self.open)
        block, rest = self.open[:end], self.open[end:]
        if fence is not None:  # close the fence in this block and reopen it in the next
            block, rest = f"{block}\n{fence[:3]}", f"{fence}\n{rest}"
        self.open = rest
        return self._render(block)

    def finish(self) -> list[RenderableType]:
        block, self.open = self.open, ""
        rendered = self._render(block)
        self._first = True
        return rendered

    def preview(self) -> RenderableType:
        block = Markdown(self.open.strip("\n"))
        return block if self._first else Group(Text(""), block)

    def _render(self, block: str) -> list[RenderableType]:
        if not block.strip():
            return []
        gap: list[RenderableType] = [] if self._first else [Text("")]
        self._first = False
        return [*gap, Markdown(block.strip("\n"))]


def last_boundary(text: str) -> tuple[int, str | None]:
    """Return the end of the last finished block (0 if none), and the line of a fence still open at the end."""
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
