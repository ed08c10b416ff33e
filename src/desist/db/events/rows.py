"""Events as rows, and back: many in one row, told shortly. What is written when is known to `flusher` and
`transactions`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from desist.agent.terminal_events import terminal_event as agent_ending
from desist.db.events.delta import MADE_BY_STEPS, PIECE, delta_decode, delta_encode, full_event
from desist.db.records.codec import decode_step
from desist.db.tables.base import EventRow
from desist.exceptions import DesistError
from desist.run.events.base import CustomFields
from desist.run.events.codec import event_from_dict
from desist.run.outputs.workflow import WorkflowRunOutput
from desist.run.records.json_values import names_of, to_json_line
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

#: How many events a row has at most.
MAX_EVENTS_PER_ROW = 250
#: What another process tells of a run has the next number that is a multiple of this: the one that has died may have
#: told events that it didn't come to store, and whoever has seen those must not miss what comes now.
OWNER_STRIDE = 1_000_000_000
#: What the last event has from the record of its run, and is not stored a second time.
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
    """Return the number with which another process goes on after that one; None: nothing is stored."""
    return ((last or 0) // OWNER_STRIDE + 1) * OWNER_STRIDE


def rows_of(run_id: str, events: Sequence[tuple[int, Any]], epoch: int) -> list[EventRow]:
    """Return events, each with its number, as rows. The terminal one of this run has a row of its own."""
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
    body = to_json_line(list(delta_encode(event for _, event in batch))).decode()
    return EventRow(run_id, batch[0][0], batch[-1][0], epoch, 0, body)


def terminal_row(run_id: str, number: int, event: Any, epoch: int) -> EventRow:
    """Return the last event of a run as a row: without what stands in the record of the run."""
    body = {name: value for name, value in full_event(event).items() if name not in _FROM_RECORD}
    return EventRow(run_id, number, number, epoch, 1, to_json_line([body]).decode())


def decoded(row: EventRow) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of a row as dicts, each with its number. What can't be read is left out, and said."""
    try:
        items = msgspec.json.decode(row.body, type=list[dict[str, Any]])
    except ValueError as error:
        log.error("events %d to %d of run %s can't be read: %s", row.first_event, row.last_event, row.run_id, error)
        return
    yield from enumerate(delta_decode(items), row.first_event)


def is_content_delta(data: dict[str, Any]) -> bool:
    """Whether an event is a piece of text although not all of its kind are."""
    return bool(data.get(PIECE))


def event_of(data: dict[str, Any], number: int | None) -> Any:
    """Return an event from its dict."""
    piece = data.pop(PIECE, False)
    try:
        event: Any = event_from_dict(data)
        for name in MADE_BY_STEPS & data.keys() if not isinstance(event, CustomFields) else ():
            setattr(event, name, decode_step(data[name]))
    except (DesistError, TypeError, ValueError) as error:
        log.error("an event %r can't be read: %s", data.get("event"), error)
        event = event_from_dict({"event": data.get("event") or "CustomEvent", "run_id": data.get("run_id")})
    if piece:
        event.is_content = True
    event.event_index = number
    return event


def terminal_event(output: Any, row: EventRow | None = None) -> Any:
    """Return the last event of a run that has ended, from its record; with what was stored of the event itself."""
    made: Any = workflow_ending(output) if isinstance(output, WorkflowRunOutput) else agent_ending(output)
    if row is not None:
        _, told = next(iter(decoded(row)), (0, {}))
        revivers = type(made)._revivers
        for name, value in told.items():
            if name in names_of(type(made)):
                setattr(made, name, revivers[name](value) if name in revivers else value)
        made.event_index, made.event_at = row.first_event, told.get("event_at")
    return made
