"""Check numbers that programs give: timeouts, counts, limits. Before a run is opened."""

from __future__ import annotations

import math
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["check_number"]


def check_number(value: Any, name: str, where: str = "") -> None:
    """Check that a value is a number of at least 0, or None.

    Parameters:
        name: for the error, such as "timeout".
        where: for the error, such as "of an Agent".

    Raises:
        ConfigurationError: another type, such as the text of an environment variable, a negative number, or NaN.
    """
    if value is None:
        return
    shown = f"{name}={value!r:.80}{where and ' '}{where}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{shown} must be a number, and is of type {type(value).__name__}")
    if value < 0 or math.isnan(value):
        raise ConfigurationError(f"{shown} must not be negative, nor NaN")
