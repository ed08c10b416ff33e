"""Checks of a workflow's input, input schema and event names, before a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.agent import RunEvent
from desist.run.events.workflow_base import WorkflowRunEvent

__all__ = ["checked_input", "checked_names", "checked_schema"]


def checked_schema(schema: Any, what: str) -> Any:
    """Return the checked input schema, or None.

    Raises:
        ConfigurationError: the schema is not a pydantic class.
    """
    if schema is not None and not (isinstance(schema, type) and hasattr(schema, "model_validate")):
        raise ConfigurationError(f"input_schema= of {what} must be a pydantic class, not {schema!r:.80}")
    return schema


def checked_input(schema: Any, value: Any, what: str) -> Any:
    """Return the input as an object of the schema; without a schema, unchanged.

    Raises:
        ConfigurationError: the input does not fit the schema; the message says where.
    """
    if schema is None or isinstance(value, schema):
        return value
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"the input of {what} must be a {schema.__name__} or a dict of its fields, not {type(value).__name__}"
        )
    from pydantic import ValidationError

    try:
        return schema.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'input'}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(f"the input of {what} doesn't fit {schema.__name__}: {wrong}") from error


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
