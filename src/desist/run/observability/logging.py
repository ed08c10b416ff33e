"""What `debug_mode=True` does: the log of desist, shown on standard error."""

from __future__ import annotations

import logging

__all__ = ["enable_debug_log"]


def enable_debug_log() -> None:
    """Show the log of desist from level DEBUG on, unless the program has set up a handler for it."""
    log = logging.getLogger("desist")
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)
