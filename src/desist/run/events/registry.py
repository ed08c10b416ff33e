"""The classes of stored events and outputs, by the names with which they are read back.

Event and output classes register themselves here by a decorator when their module is imported. A reviver looks its
class up here, so that a module of events need not import the outputs, which hold events themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

from desist.exceptions import DesistError
from desist.run.events.base import BaseRunOutputEvent
from desist.run.records.record import Record, record_class

__all__ = ["AGENT_EVENTS", "WORKFLOW_EVENTS", "agent_event", "output_class", "output_from_dict", "workflow_event"]

E = TypeVar("E", bound=BaseRunOutputEvent)
R = TypeVar("R", bound=Record)

#: The class of each event name. Written while modules are imported, and only read afterwards.
AGENT_EVENTS: dict[str, type[BaseRunOutputEvent]] = {}
WORKFLOW_EVENTS: dict[str, type[BaseRunOutputEvent]] = {}
_OUTPUTS: dict[str, type[Record]] = {}


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def agent_event(kind: type[E]) -> type[E]:
    """Make an event class of agents a record, and register it by its `event`. A class decorator."""
    AGENT_EVENTS[kind.event] = kind
    return record_class(kind)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def workflow_event(kind: type[E]) -> type[E]:
    """Make an event class of workflows a record, and register it by its `event`. A class decorator."""
    WORKFLOW_EVENTS[kind.event] = kind
    return record_class(kind)


def output_class(kind: type[R]) -> type[R]:
    """Register the class of an agent's or workflow's output by its name. A class decorator."""
    _OUTPUTS[kind.__name__] = kind
    return kind


def output_from_dict(data: Any) -> Any:
    """Build the output of a run from a dict; an output is returned unchanged. Only a workflow's has `step_results`.

    Raises:
        DesistError: a field's value has the wrong shape, or the module of the output class is not imported.
    """
    if isinstance(data, tuple(_OUTPUTS.values())):
        return data
    name = "WorkflowRunOutput" if "step_results" in data else "RunOutput"
    kind = _OUTPUTS.get(name)
    if kind is None:
        raise DesistError(f"{name} is not registered: import desist.run.workflow before reading stored events")
    return kind.from_dict(data)
