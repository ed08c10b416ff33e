"""The base of all events, the stages of a cancel, and names that events and outputs share.

Imported by every module of events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Self

from desist.cancel.receipt import Abandoned, CancelRecord
from desist.cancel.status import RunStatus
from desist.exceptions import UnsupportedError
from desist.run.options.context import RunContext
from desist.run.records.json_values import Path, names_of, to_json_value
from desist.run.records.record import Record

__all__ = [
    "Abandoned",
    "BaseRunOutputEvent",
    "CancelRecord",
    "CancellationStage",
    "CustomFields",
    "RunContext",
    "RunStatus",
    "content_text",
    "now",
]


def now() -> int:
    """Return the time in whole seconds since the epoch, as events carry it."""
    return int(time.time())


#: The attributes that a stream sets on an event. They are not fields, so they are not part of its content.
_OF_STREAMS = ("event_index", "event_at", "missed_events")


class CancellationStage(str, Enum):
    """The stage of a run when it was cancelled; None on an output if unknown."""

    pending = "PENDING"  #: it never started
    executing = "EXECUTING"
    paused = "PAUSED"


class BaseRunOutputEvent(Record):
    """Base of every event of a stream. Not a dataclass itself: the attributes here are not fields.

    A terminal event of a run, and every event of a workflow, has a `status`, a real `RunStatus`.
    """

    event: str = ""
    run_id: str | None = None
    event_index: int | None = None  #: number in a resumable stream; set per event, never sent by `to_dict`
    event_at: float | None = None  #: when it was emitted, in seconds since the epoch; set and sent likewise
    missed_events: int | None = None  #: how many events before it were dropped because they were not read; likewise
    is_content: ClassVar[bool] = False  #: text: undelivered events of this kind are dropped at a cancel
    is_terminal: ClassVar[bool] = False  #: the last event of its run
    is_cancelled: ClassVar[bool] = False
    is_error: ClassVar[bool] = False
    is_paused: ClassVar[bool] = False
    _status_attribute: ClassVar[bool] = False

    def _fields(self, path: Path) -> dict[str, Any]:
        data = super()._fields(path)
        if self._status_attribute:
            data["status"] = self.status.value  # type: ignore[attr-defined]  # every such class has one
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the event from a dict; see `Record.from_dict`. The attributes of a stream are set too.

        Raises:
            DesistError: a field's value has the wrong shape; the message names class and field.
        """
        event = super().from_dict(data)
        for name in _OF_STREAMS:
            if data.get(name) is not None:
                setattr(event, name, data[name])
        return event


class CustomFields(BaseRunOutputEvent):
    """A mixin that makes an event take any keyword; listed before an event class whose fields all have defaults.

    Raises:
        UnsupportedError: a keyword would hide a method or constant of the event.
    """

    def __init__(self, **values: Any) -> None:
        super().__init__()
        taken = [name for name in values if not self._is_free(name)]
        if taken:
            raise UnsupportedError(f"{type(self).__name__} can't hold {taken}: these names mean something; rename them")
        self.event = type(self).event
        self.__dict__.update(values)

    @classmethod
    def _is_free(cls, name: str) -> bool:
        return name in names_of(cls) or not hasattr(cls, name)

    def _fields(self, path: Path) -> dict[str, Any]:
        inside = (*path, id(self))
        return super()._fields(path) | {name: to_json_value(value, inside) for name, value in self._extras().items()}

    def _extras(self) -> dict[str, Any]:
        """Return the attributes that are not fields, without those that are None."""
        known = {*names_of(type(self)), *_OF_STREAMS}
        return {name: value for name, value in vars(self).items() if value is not None and name not in known}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the event from a dict; other than in most classes, keys that are not fields become attributes."""
        event = super().from_dict(data)
        known = names_of(cls)
        for name, value in data.items():
            if name not in known and cls._is_free(name):
                event.__dict__[name] = value
        return event

    def _values(self) -> dict[str, Any]:
        return super()._values() | self._extras()


def content_text(content: Any) -> str:
    """Return a content as text: a string unchanged, None as "", any other value as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    import json  # imported on first use: most outputs are text

    return json.dumps(to_json_value(content), ensure_ascii=False, indent=2)
