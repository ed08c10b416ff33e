"""Encodes events as rows, and decodes them: a row has many events, as compressed JSON lines.

`flusher` and `transactions` decide what is written when.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from desist.agent.terminal_events import terminal_event as agent_ending
from desist.db.events.old_rows import decode_old_row
from desist.db.records.codec import decode_step
from desist.db.tables.base import EventRow
from desist.exceptions import DesistError
from desist.run.events.base import CustomFields
from desist.run.events.codec import event_from_dict
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.json_values import names_of, to_json_line, to_json_value
from desist.workflow.terminal_events import terminal_event as workflow_ending

__all__ = [
    "OWNER_STRIDE",
    "decoded",
    "event_of",
    "is_content_delta",
    "next_owner_index",
    "rows_of",
    "terminal_event",
    "terminal_row",
]

log = logging.getLogger("desist.db")

#: Fields of events with outputs of steps.
STEP_OUTPUTS = frozenset({"all_results", "iteration_results", "step_output", "step_response", "step_results"})
#: The key that marks an event as a piece of text although its class is not.
PIECE = "is_content"
#: The level of zlib; measured in `bench/event_rows.py`.
LEVEL = 3
#: The maximum of events in one row.
MAX_EVENTS_PER_ROW = 250
#: The first event of the next owner has the next multiple of this number: the previous owner may have emitted events
#: that it did not store, and a reader that has seen those must not skip the new ones.
OWNER_STRIDE = 1_000_000_000
_decode_line = msgspec.json.Decoder(dict[str, Any]).decode
#: Fields that the last event takes from the record of its run, so that they are not stored twice.
_FROM_RECORD = frozenset(
    {
        "cancel",
        "content",
        "metadata",
        "metrics",
        "reasoning_content",
        "run_output",
        "session_state",
        "step_executor_runs",
        "step_results",
    }
)


def next_owner_index(last: int | None) -> int:
    """Return the number of the first event of the next owner, after the last stored number; None: there is none."""
    return ((last or 0) // OWNER_STRIDE + 1) * OWNER_STRIDE


def rows_of(run_id: str, events: Sequence[tuple[int, Any]], epoch: int) -> list[EventRow]:
    """Return numbered events as rows. The terminal event of this run has a row of its own."""
    rows: list[EventRow] = []
    batch: list[tuple[int, Any]] = []
    for number, event in events:
        if batch and (number != batch[-1][0] + 1 or len(batch) == MAX_EVENTS_PER_ROW):
            rows.append(_row(run_id, batch, epoch))
            batch = []
        if event.is_terminal and event.run_id == run_id:
            rows += [_row(run_id, batch, epoch)] if batch else []
            rows.append(terminal_row(run_id, number, event, epoch))
            batch = []
        else:
            batch.append((number, event))
    return [*rows, _row(run_id, batch, epoch)] if batch else rows


def _row(run_id: str, batch: Sequence[tuple[int, Any]], epoch: int) -> EventRow:
    return EventRow(run_id, batch[0][0], batch[-1][0], epoch, 0, packed=_pack(_plain(event) for _, event in batch))


def terminal_row(run_id: str, number: int, event: Any, epoch: int) -> EventRow:
    """Return the last event of a run as a row, without the fields that the record of the run has."""
    data = {name: value for name, value in _plain(event).items() if name not in _FROM_RECORD}
    return EventRow(run_id, number, number, epoch, 1, packed=_pack([data]))


def _pack(events: Iterable[dict[str, Any]]) -> bytes:
    return zlib.compress(b"\n".join(map(to_json_line, events)), LEVEL)


def _plain(event: Any) -> dict[str, Any]:
    """Return all of an event as plain values."""
    data = to_json_value(event)
    if not isinstance(data, dict):  # a value is being changed by another thread, or has no JSON
        data = {"run_id": event.run_id, "content": data}
    data["event"] = str(data.get("event") or event.event or type(event).__name__)
    if event.is_content and not type(event).is_content:
        data[PIECE] = True
    if event.event_at is not None:
        data["event_at"] = round(event.event_at, 2)
    return data


def decoded(row: EventRow) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of a row as dicts, with their numbers. A row that can't be decoded is logged and left out."""
    try:
        if row.packed is not None:
            items: Iterable[dict[str, Any]] = [_decode_line(line) for line in zlib.decompress(row.packed).split(b"\n")]
        else:
            items = decode_old_row(msgspec.json.decode(row.body, type=list[dict[str, Any]]), STEP_OUTPUTS)
    except (ValueError, zlib.error) as error:
        log.error("events %d to %d of run %s can't be read: %s", row.first_event, row.last_event, row.run_id, error)
        return
    for number, data in enumerate(items, row.first_event):
        yield number, {name: value for name, value in data.items() if value is not None}


def is_content_delta(data: dict[str, Any]) -> bool:
    """Return whether an event is a piece of text although its class is not."""
    return bool(data.get(PIECE))


def event_of(data: dict[str, Any], number: int | None) -> Any:
    """Return an event from its dict. One that can't be decoded is logged, and keeps only its type and run id."""
    piece = data.pop(PIECE, False)
    try:
        event: Any = event_from_dict(data)
        for name in STEP_OUTPUTS & data.keys() if not isinstance(event, CustomFields) else ():
            setattr(event, name, decode_step(data[name]))
    except (DesistError, TypeError, ValueError) as error:
        log.error("an event %r can't be read: %s", data.get("event"), error)
        event = event_from_dict({"event": data.get("event") or "CustomEvent", "run_id": data.get("run_id")})
    if piece:
        event.is_content = True
    event.event_index = number
    return event


def terminal_event(output: Any, row: EventRow | None = None) -> Any:
    """Return the last event of an ended run, made from its record and from the stored row of the event."""
    event: Any = workflow_ending(output) if isinstance(output, WorkflowRunOutput) else agent_ending(output)
    if row is not None:
        _, stored = next(iter(decoded(row)), (0, {}))
        revivers = type(event)._revivers
        for name, value in stored.items():
            if name in names_of(type(event)):
                setattr(event, name, revivers[name](value) if name in revivers else value)
        event.event_index, event.event_at = row.first_event, stored.get("event_at")
    return event
