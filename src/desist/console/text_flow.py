"""Split streamed text into a finished part and an open part that may still change.

Only the open part is redrawn, so the cost per token doesn't grow with the length of the text.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.text import Text

__all__ = ["LONGEST_OPEN", "TextFlow", "last_boundary"]

#: The length in characters from which an unfinished line or block is split.
LONGEST_OPEN = 4000


class TextFlow:
    """A growing text: append to `open`, and take the finished part.

    A line of plain text is finished at its end. A block of Markdown is finished when an empty line follows it, outside
    of a code fence.
    """

    def __init__(self, *, markdown: bool) -> None:
        self.open = ""  #: the part that may still change
        self._markdown = markdown
        self._first = True

    def settle(self) -> list[RenderableType]:
        """Remove the finished part from `open` and return it."""
        end, fence = last_boundary(self.open) if self._markdown else (self.open.rfind("\n") + 1, None)
        if not end and len(self.open) > LONGEST_OPEN:
            return self._cut(fence)
        finished, self.open = self.open[:end], self.open[end:]
        return self._render(finished)

    def _cut(self, fence: str | None) -> list[RenderableType]:
        """Split a part that exceeds the limit: at the end of a line, else at a space, else anywhere."""
        end = (self.open.rfind("\n") + 1) or (self.open.rfind(" ") + 1) or len(self.open)
        block, rest = self.open[:end], self.open[end:]
        if fence is not None:  # close the fence in this block and reopen it in the next
            block, rest = f"{block}\n{fence[:3]}", f"{fence}\n{rest}"
        self.open = rest
        return self._render(block)

    def finish(self) -> list[RenderableType]:
        """End the text and return the rest."""
        rendered = self._render(self.open.rstrip())
        self.open, self._first = "", True
        return rendered

    def preview(self) -> RenderableType:
        """Return the rendering of `open`."""
        if not self._markdown:
            return Text(self.open)
        block = Markdown(self.open.strip("\n"))
        return block if self._first else Group(Text(""), block)

    def _render(self, part: str) -> list[RenderableType]:
        if not self._markdown:
            return [Text(part.removesuffix("\n"))] if part else []
        if not part.strip():
            return []
        gap: list[RenderableType] = [] if self._first else [Text("")]
        self._first = False
        return [*gap, Markdown(part.strip("\n"))]


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
