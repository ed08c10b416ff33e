"""Decodes rows of events from before migration 0007: JSON arrays in which most events are deltas.

An item with an `event` key is a full event. Any other item has the fields that changed since the previous event of its
type; removed fields are null. `~` is the number of the type within the row; without it, the type is that of the
previous item. Within the output of a step, `~` is a number by which later items refer to that output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["decode_old_row"]

_NUMBER = "~"


def decode_old_row(items: Iterable[dict[str, Any]], step_outputs: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a row as full events."""
    kinds: dict[int, dict[str, Any]] = {}
    outputs: dict[int, Any] = {}
    kind: int | None = None
    for item in items:
        kind = item.pop(_NUMBER, None if "event" in item else kind)
        for name in step_outputs & item.keys():
            value = item[name]
            if isinstance(value, dict) and _NUMBER in value:
                number = value.pop(_NUMBER)
                if value or number not in outputs:
                    outputs[number] = value
                item[name] = outputs[number]
        data = item if "event" in item or kind is None else {**kinds.get(kind, {}), **item}
        if kind is not None:
            kinds[kind] = data
        yield data
