"""Events that follow one another, told shortly: each as what it has other than the last one of its kind.

Most events of a run are pieces of text that differ in nothing but the text: so a piece costs some twenty bytes and not
four hundred. What a step made stands in two events or three, and is told once. Pure; `item` makes rows of it.

An item with `event` is a whole event. Another one has the fields that changed since the last of its kind, None for
those that are gone. `~` is the number of the kind in this batch; without it the kind is that of the item before. In
what a step made, `~` is a number by which it is told again, with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from desist.run.events.base import BaseRunOutputEvent
from desist.run.records.json_values import names_of, to_json_value
from desist.run.records.record import Record
from desist.workflow.types import StepOutput

__all__ = ["MADE_BY_STEPS", "PIECE", "delta_decode", "delta_encode", "full_event"]

#: Where events have what steps made.
MADE_BY_STEPS = frozenset({"all_results", "iteration_results", "step_output", "step_response", "step_results"})
#: Said where an event is a piece of text although not all of its kind are.
PIECE = "is_content"
_NUMBER = "~"
#: When it was told; to a hundredth of a second, which is often that of the event before.
_TIME = "event_at"
#: What isn't said of what a step made, because it is nearly always so.
_USUAL = {"success": True, "stop": False, "cancelled": False}
#: What can't change inside: the same object is as it was told before.
_FIXED = frozenset({str, int, float, bool, type(None)})
_Kind = tuple[type, bool]
_getters: dict[type, Any] = {}


def full_event(event: Any) -> dict[str, Any]:
    """Return all of an event, as plain values."""
    data = to_json_value(event)
    if not isinstance(data, dict):  # something in it changes just now, or can't be told at all
        data = {"run_id": event.run_id, "content": data}
    data["event"] = str(data.get("event") or event.event or type(event).__name__)
    if event.is_content and not type(event).is_content:
        data[PIECE] = True
    if event.event_at is not None:
        data[_TIME] = round(event.event_at, 2)
    return data


def _getter(kind: type) -> Any:
    """Return what reads the fields of a kind of events, or None if those aren't all that is sent of it."""
    if kind not in _getters:
        own = getattr(kind, "_fields", None) is BaseRunOutputEvent._fields
        ours = own and getattr(kind, "to_dict", None) is Record.to_dict
        _getters[kind] = attrgetter(*names_of(kind)) if ours else None
    return _getters[kind]


def delta_encode(events: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield each event as an item."""
    batch = _DeltaEncoder()
    for event in events:
        yield batch.item(event)


class _DeltaEncoder:
    """What was told by now."""

    __slots__ = ("_before", "_last", "_made", "_numbers", "_told_at")

    def __init__(self) -> None:
        self._numbers: dict[_Kind, int] = {}
        self._before: dict[_Kind, tuple[Any, ...]] = {}
        self._last: _Kind | None = None
        self._told_at: dict[_Kind, float | None] = {}
        self._made: dict[int, tuple[int, Any]] = {}  #: by what an object is: its number, and itself, so that it stays

    def item(self, event: Any) -> dict[str, Any]:
        get = _getter(type(event))
        if get is None:
            self._last = None
            return full_event(event)
        kind = (type(event), event.is_content)
        values, before = get(event), self._before.get(kind)
        data = self._changed(kind, values, before) if before is not None else None
        if data is None or "event" in data:
            data = self._first(kind, event)
        self._timed(kind, event, data)
        self._before[kind], self._last = values, kind
        return data

    def _first(self, kind: _Kind, event: Any) -> dict[str, Any]:
        data = full_event(event)
        data[_NUMBER] = self._numbers.setdefault(kind, len(self._numbers))
        for name in MADE_BY_STEPS & data.keys():
            if isinstance(data[name], dict):
                data[name] = self._once(getattr(event, name, None), data[name], kind)
        return data

    def _changed(self, kind: _Kind, values: tuple[Any, ...], before: tuple[Any, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {} if kind == self._last else {_NUMBER: self._numbers[kind]}
        for name, value, known in zip(names_of(kind[0]), values, before, strict=True):
            if value is known:
                if type(value) in _FIXED:
                    continue
            elif type(value) is int and type(known) is int and value == known:
                continue
            data[name] = self._once(value, None, kind)
        return data

    def _timed(self, kind: _Kind, event: Any, data: dict[str, Any]) -> None:
        at = event.event_at and round(event.event_at, 2)
        if "event" not in data and at != self._told_at.get(kind):
            data[_TIME] = at
        self._told_at[kind] = at

    def _once(self, value: Any, item: Any, kind: _Kind) -> Any:
        """Return a value as it is told; what a step made and was told before is only named."""
        if type(value) is not StepOutput:
            return to_json_value(value) if item is None else item
        known = self._made.get(id(value))
        if known is not None and not kind[1]:
            return {_NUMBER: known[0]}
        data = to_json_value(value) if item is None else item
        if not isinstance(data, dict):
            return data
        data = {name: held for name, held in data.items() if held is not _USUAL.get(name)}
        if kind[1]:  # a piece, which isn't told again
            return data
        number = len(self._made)
        self._made[id(value)] = (number, value)
        return {_NUMBER: number, **data}


def delta_decode(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the events of items, each whole."""
    kinds: dict[int, dict[str, Any]] = {}
    made: dict[int, Any] = {}
    at: int | None = None
    for item in items:
        at = item.pop(_NUMBER, None if "event" in item else at)
        for name in MADE_BY_STEPS & item.keys():
            item[name] = _unfolded(item[name], made)
        data = item if "event" in item or at is None else {**kinds.get(at, {}), **item}
        if at is not None:
            kinds[at] = data
        yield {name: value for name, value in data.items() if value is not None}


def _unfolded(value: Any, made: dict[int, Any]) -> Any:
    if not isinstance(value, dict) or _NUMBER not in value:
        return value
    number = value.pop(_NUMBER)
    if value or number not in made:
        made[number] = value
    return made[number]
