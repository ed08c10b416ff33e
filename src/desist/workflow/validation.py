"""Checks of a workflow's input, input schema and event names, before a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.agent import RunEvent
from desist.run.events.workflow_base import WorkflowRunEvent
from desist.value_type import ValueType

__all__ = ["checked_input", "checked_names"]


def checked_input(input_type: ValueType | None, value: Any, what: str) -> Any:
    """Return the input, converted to the type; without a type, unchanged.

    Raises:
        ConfigurationError: the input does not fit the type; the message says where.
    """
    if input_type is None:
        return value
    try:
        return input_type.validate(value)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        found = errors() if callable(errors) else []
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'input'}: {one['msg']}" for one in found) or error
        raise ConfigurationError(f"the input of {what} doesn't fit {input_type.name}: {wrong}") from error


def checked_names(names: Iterable[Any] | None, what: str) -> frozenset[str] | None:
    """Return the names of events as plain text, or None.

    Raises:
        ConfigurationError: there is no such event.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise ConfigurationError(f"events_to_skip= of {what} must be a list, not {names!r}")
    known = {event.value for event in (*RunEvent, *WorkflowRunEvent)}
    plain = [getattr(name, "value", name) for name in names]
    for name in plain:
        if name not in known:
            raise ConfigurationError(f"events_to_skip= of {what} names {name!r}, and there is no such event")
    return frozenset(plain)
