"""Callbacks of `os.fork`. On systems that can't fork, such as Windows, registering one does nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["register_at_fork"]


def _ignore(**callbacks: Any) -> None:
    """Stand in for `os.register_at_fork` where nothing is ever forked."""


#: `os.register_at_fork`, with its parameters `before`, `after_in_parent` and `after_in_child`.
register_at_fork: Callable[..., None] = getattr(os, "register_at_fork", _ignore)
