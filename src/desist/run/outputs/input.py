"""What a run may be asked: text, a dict, a list, or a pydantic object; and the same as text for a model."""

from __future__ import annotations

from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.events.base import content_text

__all__ = ["check_input", "input_text"]


def check_input(value: Any, what: str, *, required: bool) -> None:
    """Refuse an input of a type that can't be told to a model.

    Raises:
        ConfigurationError: names `what` and the type that was given.
    """
    if value is None:
        if required:
            raise ConfigurationError(f"{what} needs an input: give a text, a dict, a list or a pydantic object")
        return
    if not isinstance(value, str | dict | list) and not hasattr(value, "model_dump"):
        raise ConfigurationError(
            f"{what} can't take an input of type {type(value).__name__}: "
            "give a text, a dict, a list or a pydantic object"
        )


def input_text(value: Any) -> str:
    """Return an input as text; invalid Unicode is replaced, so that it can be sent."""
    text = value if isinstance(value, str) else content_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text
