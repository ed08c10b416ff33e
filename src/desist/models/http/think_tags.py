"""`ThinkTags`: separates the reasoning that a server leaves in the text, between tags, from the answer.

Called by `answer`. Only tags at the very beginning count: later ones are text that the model was asked for.
"""

from __future__ import annotations

import re

__all__ = ["ThinkTags"]

#: The tags of open models, in lower case, each with the one that ends it.
_TAGS = {
    "<think>": re.compile(r"</think>", re.IGNORECASE),
    "[think]": re.compile(r"\[/think\]", re.IGNORECASE),
}
#: The beginning of such an end, at the end of a piece.
_PARTIAL = re.compile(r"[<\[](/(t(h(i(nk?)?)?)?)?)?$", re.IGNORECASE)


class ThinkTags:
    """Splits a text that arrives in pieces. A piece that may be a part of a tag waits for the next."""

    __slots__ = ("_begun", "_end", "_waiting", "open")

    def __init__(self) -> None:
        self.open = True  #: whether the answer's text hasn't begun: until then, `split` must be called
        self._end: re.Pattern[str] | None = None  # of the tag that ends the reasoning
        self._begun = False  # the reasoning has begun
        self._waiting = ""

    def split(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the text that are certain now."""
        self._waiting += text
        return self._beginning() if not self._begun else self._thought()

    def rest(self) -> tuple[str, str]:
        """Return what still waits, as reasoning and text, at the end of the answer."""
        waiting, self._waiting, self.open = self._waiting, "", False
        return (waiting, "") if self._end else ("", waiting)

    def _beginning(self) -> tuple[str, str]:
        start = self._waiting.lstrip()
        for tag, end in _TAGS.items():
            if start[: len(tag)].lower() == tag:
                self._begun, self._end, self._waiting = True, end, start[len(tag) :]
                return self._thought()
            if tag.startswith(start.lower()):
                return "", ""
        return self.rest()

    def _thought(self) -> tuple[str, str]:
        """Look for the end of the reasoning, then for the first word of the text."""
        waiting, thought = self._waiting, ""
        if self._end is not None:
            found = self._end.search(waiting)
            if found is None:
                kept = _PARTIAL.search(waiting)
                at = kept.start() if kept else len(waiting)
                self._waiting = waiting[at:]
                return waiting[:at], ""
            self._end, thought, waiting = None, waiting[: found.start()], waiting[found.end() :]
        self._waiting, self.open = "", not waiting.strip()
        return thought, waiting.lstrip()
