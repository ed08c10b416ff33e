"""Convert events and outputs to dicts, JSON lines and SSE frames, and events back.

Called by the store, the server and programs that write runs to a file. Importing this module registers all event
classes; `desist.run.records.json_values` converts the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.exceptions import DesistError
from desist.run.events import containers, steps, workflow  # noqa: F401  # their classes register themselves
from desist.run.events.agent import agent_event_from_dict
from desist.run.events.base import BaseRunOutputEvent
from desist.run.events.registry import AGENT_EVENTS, WORKFLOW_EVENTS
from desist.run.events.workflow_base import CustomEvent
from desist.run.records.json_values import to_json_line, to_json_value

__all__ = ["event_from_dict", "sse_frame", "to_dict", "to_json"]


def to_dict(value: Any) -> Any:
    """Return `value` (an event, an output, any object) as plain JSON values; see `to_json_value`."""
    return to_json_value(value)


def to_json(value: Any) -> str:
    """Return `value` as one line of compact JSON, non-ASCII unescaped. `json.loads` of it equals `to_dict(value)`."""
    return to_json_line(to_json_value(value)).decode()


def sse_frame(event: BaseRunOutputEvent, index: int | None = None, run_id: str | None = None) -> bytes:
    """Return an event as a server-sent event: its name, its JSON, an empty line.

    Parameters:
        event: any event of a stream.
        index: the event's number in a resumable stream; added to the data as `event_index` and to the frame as `id`,
            which a client sends back as `Last-Event-ID`.
        run_id: id of the run whose stream this is, added to the data as `run_id`. For an event of a run inside that
            one, the inner run's id becomes `event_run_id`.

    In a resumable stream `event_at` is the time at which the event was emitted, in seconds since the epoch, if known.
    """
    data = to_json_value(event)
    if index is not None:
        data["event_index"] = index
        if event.event_at is not None:
            data["event_at"] = event.event_at
    if run_id is not None:
        if data.get("run_id") not in (None, run_id):
            data["event_run_id"] = data["run_id"]
        data["run_id"] = run_id
    name = " ".join(str(data.get("event") or type(event).__name__).split()).encode()
    frame_id = b"" if index is None else b"id: %d\n" % index
    return b"event: %b\ndata: %b\n%b\n" % (name, to_json_line(data), frame_id)


def event_from_dict(data: Mapping[str, Any]) -> BaseRunOutputEvent:
    """Build an event from a dict such as `to_dict(event)` returns, by its name.

    An event of an unknown name becomes a `CustomEvent` with the same name and keys. Unknown keys of a known event are
    ignored. Agents and workflows share the name CustomEvent: a dict with `agent_id` is the agent's.

    Raises:
        DesistError: `data` is not a mapping with an `event`, or a field's value has the wrong shape.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("event"), str):
        raise DesistError(f"an event must be a mapping with its name under 'event', got {data!r:.200}")
    name = data["event"]
    kind = WORKFLOW_EVENTS.get(name)
    if kind is not None and not (kind is CustomEvent and "agent_id" in data):
        return kind.from_dict(data)
    if name in AGENT_EVENTS or "agent_id" in data:
        return agent_event_from_dict(data)
    return CustomEvent.from_dict(data)
