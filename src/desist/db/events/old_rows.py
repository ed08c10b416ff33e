"""Reading rows of events that versions before 0007 have written: JSON arrays in which an event is told by its changes.

An item with `event` is a whole event. Any other one has the fields that changed since the last event of its kind, null
for those that are gone. `~` is the number of the kind in this row; without it the kind is that of the item before. In
what a step made, `~` is a number by which later items name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["decode_old_row"]

_NUMBER = "~"


def decode_old_row(items: Iterable[dict[str, Any]], made_by_steps: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a row, each whole."""
    kinds: dict[int, dict[str, Any]] = {}
    made: dict[int, Any] = {}
    kind: int | None = None
    for item in items:
        kind = item.pop(_NUMBER, None if "event" in item else kind)
        for name in made_by_steps & item.keys():
            value = item[name]
            if isinstance(value, dict) and _NUMBER in value:
                number = value.pop(_NUMBER)
                if value or number not in made:
                    made[number] = value
                item[name] = made[number]
        data = item if "event" in item or kind is None else {**kinds.get(kind, {}), **item}
        if kind is not None:
            kinds[kind] = data
        yield data
