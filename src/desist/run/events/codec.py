"""Events and outputs as dicts, JSON lines and SSE frames, and back.

Called by the store, the server and whoever writes runs to a file. It knows every event's name and class; how a value
becomes plain is `to_json_value`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desist.exceptions import DesistError
from desist.run.events import agent as agent_events
from desist.run.events import containers as container_events
from desist.run.events import steps as step_events
from desist.run.events import workflow as workflow_events
from desist.run.events import workflow_base as workflow_event
from desist.run.events.base import BaseRunOutputEvent
from desist.run.records.json_values import to_json_line, to_json_value

__all__ = ["WORKFLOW_EVENT_TYPES", "event_from_dict", "sse_frame", "to_dict", "to_json"]


def _by_name() -> dict[str, type[workflow_event.BaseWorkflowRunOutputEvent]]:
    kinds = [getattr(room, name) for room in (workflow_events, step_events, container_events) for name in room.__all__]
    return {kind.event: kind for kind in (*kinds, workflow_event.CustomEvent)}


#: The class of each event name of a workflow.
WORKFLOW_EVENT_TYPES = _by_name()


def to_dict(value: Any) -> Any:
    """Return `value` (an event, an output, anything) as plain JSON values; see
    `desist.run.records.json_values.to_json_value`.
    """
    return to_json_value(value)


def to_json(value: Any) -> str:
    """Return `value` as one line of compact JSON; non-ASCII is kept. `json.loads` of it equals `to_dict(value)`."""
    return to_json_line(to_json_value(value)).decode()


def sse_frame(event: BaseRunOutputEvent, index: int | None = None, run_id: str | None = None) -> bytes:
    """Return an event as a server-sent event: its name, its JSON, an empty line.

    Args:
        event: any event of a stream.
        index: its place in a resumable stream; added to the data as `event_index` and as the frame's `id`, which a
            client sends back as `Last-Event-ID`.
        run_id: id of the run whose stream this is, put into the data as `run_id`. Where the event is of a run inside
            that one, its own id becomes `event_run_id`.

    In a resumable stream `event_at` says when the event was told, in seconds since the epoch, where that is known.
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
    place = b"" if index is None else b"id: %d\n" % index
    return b"event: %b\ndata: %b\n%b\n" % (name, to_json_line(data), place)


def event_from_dict(data: Mapping[str, Any]) -> BaseRunOutputEvent:
    """Build an event from a dict such as `to_dict(event)` returns, by its name.

    A name that nobody knows becomes a `CustomEvent` that keeps name and keys. Of a known event unknown keys are
    ignored. Where agents and workflows share a name (CustomEvent), a dict with `agent_id` is the agent's.

    Raises:
        DesistError: `data` isn't a mapping with an `event`, or a field's value is of the wrong shape.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("event"), str):
        raise DesistError(f"an event must be a mapping with its name under 'event', got {data!r:.200}")
    name = data["event"]
    ours = WORKFLOW_EVENT_TYPES.get(name)
    if ours is not None and not (ours is workflow_event.CustomEvent and "agent_id" in data):
        return ours.from_dict(data)
    if name in agent_events.RUN_EVENT_TYPES or "agent_id" in data:
        return agent_events.agent_event_from_dict(data)
    return workflow_event.CustomEvent.from_dict(data)
