"""The effect of `debug_mode=True`: the log of desist on standard error."""

from __future__ import annotations

import logging

__all__ = ["enable_debug_log"]


def enable_debug_log() -> None:
    """Write the log of desist, from level DEBUG on, to standard error, unless the program has set a handler."""
    log = logging.getLogger("desist")
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)
