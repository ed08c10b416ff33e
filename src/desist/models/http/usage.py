"""`UsageCount`: the tokens of a response, under all the names that servers have for them. Used by `answer`.

Servers count along, count at the end, or both; a count that is missing or 0 keeps its earlier value.
"""

from __future__ import annotations

import math
from typing import Any

from desist.run.records.metrics import Usage

__all__ = ["UsageCount"]

LARGEST = 2**53  #: a larger count is a mistake, and would not survive JSON
#: What the counts are called, without `_` and in lower case; the first that is there counts.
_NAMES = {
    "input": "prompttokens inputtokens prompttokencount inputtokencount promptevalcount",
    "output": "completiontokens outputtokens candidatestokencount outputtokencount evalcount generatedtokens",
    "total": "totaltokens totaltokencount",
    "reasoning": "reasoningtokens thinkingtokens thoughtstokencount",
    "read": "cachedtokens prompttokenscached promptcachehittokens cachereadinputtokens cachedcontenttokencount",
    "written": "cachewritetokens cachecreationinputtokens cachewriteinputtokens",
}
_COUNTS = {name: tuple(words.split()) for name, words in _NAMES.items()}
_KNOWN = frozenset(" ".join(_NAMES.values()).split())
#: Objects that hold counts inside of others.
_INSIDE = (
    *("usage", "usagemetadata", "tokenusage", "xgroq", "tokens", "billedunits", "prompttokensdetails"),
    *("inputtokensdetails", "completiontokensdetails", "outputtokensdetails"),
)
_DEPTH = 3  #: of such objects


class UsageCount:
    """Adds up what a response says of its usage. `None` until it says anything."""

    __slots__ = ("_apart", "_counts")

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = None
        self._apart = False

    def take(self, told: Any, *, cache_apart: bool = False) -> None:
        """Take the counts in a JSON value, if there are any.

        Parameters:
            cache_apart: whether the input tokens leave out what the cache read and wrote.
        """
        if isinstance(told, list):
            told = next((entry for entry in told if isinstance(entry, dict)), None)
        if not isinstance(told, dict):
            return
        found = _plain(told)
        if found.keys().isdisjoint(_KNOWN):
            return
        self._apart = cache_apart
        counts = self._counts = self._counts or dict.fromkeys(_COUNTS, 0)
        for name, words in _COUNTS.items():
            counts[name] = next((count for word in words if (count := _count(found.get(word)))), counts[name])

    def total(self) -> Usage | None:
        """Return the usage, or None if the response had none."""
        if self._counts is None:
            return None
        input, output, total, reasoning, read, written = self._counts.values()
        if self._apart:
            input += read + written
        return Usage(
            input_tokens=input,
            output_tokens=output,
            total_tokens=max(total, input + output),
            reasoning_tokens=reasoning,
            cache_read_tokens=read,
            cache_write_tokens=written,
        )


def _plain(told: dict[str, Any], depth: int = _DEPTH) -> dict[str, Any]:
    """Return the counts under plain names, also those in objects inside, where there is no count outside of them."""
    named = {key.replace("_", "").lower(): value for key, value in told.items()}
    found = {name: value for name, value in named.items() if not isinstance(value, dict)}
    for name, value in named.items():
        if isinstance(value, dict) and name in _INSIDE and depth:
            found |= {key: count for key, count in _plain(value, depth - 1).items() if not _count(found.get(key))}
    return found


def _count(value: Any) -> int:
    """Return a value as a count, or 0 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0
    return int(number) if math.isfinite(number) and 0 < number < LARGEST else 0
