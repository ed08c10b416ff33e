"""Check a run's input (text, a dict, a list or a pydantic object) and convert it to text for a model."""

from __future__ import annotations

from typing import Any

from desist.exceptions import ConfigurationError
from desist.run.events.base import content_text

__all__ = ["check_input", "input_text"]


def check_input(value: Any, what: str, *, required: bool) -> None:
    """Check that `value` has a type that can be sent to a model.

    Raises:
        ConfigurationError: the type is not supported, or `value` is None and required. The message names `what`.
    """
    if value is None:
        if required:
            raise ConfigurationError(f"{what} needs an input: pass a text, a dict, a list or a pydantic object")
        return
    if not isinstance(value, str | dict | list) and not hasattr(value, "model_dump"):
        raise ConfigurationError(
            f"{what} can't take an input of type {type(value).__name__}: "
            "pass a text, a dict, a list or a pydantic object"
        )


def input_text(value: Any) -> str:
    """Return an input as text. Invalid Unicode is replaced, so that the text can be sent."""
    text = value if isinstance(value, str) else content_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text
