"""The log, where a command writes it on the terminal: a line a message, no control characters, no credentials."""

from __future__ import annotations

import logging
from types import TracebackType

__all__ = ["terminal_handler"]


class _Lines(logging.Formatter):
    """A line for each message; tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # logging's name
        """Return the message. Ids and errors in it may be a stranger's."""
        from desist.console.format import escaped
        from desist.run.records.redact import redact

        return redact(escaped(super().formatMessage(record)))

    def formatException(  # logging's name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return the traceback."""
        from desist.console.format import clean
        from desist.run.records.redact import redact

        return redact(clean(super().formatException(ei)))


def terminal_handler(level: int = logging.WARNING) -> logging.Handler:
    """Return a handler that writes to standard error."""
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(_Lines())
    return handler
