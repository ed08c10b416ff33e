"""The log handler for the terminal: one line per message, without control characters or credentials."""

from __future__ import annotations

import logging
from types import TracebackType

__all__ = ["terminal_handler"]


class _SafeFormatter(logging.Formatter):
    """Formats each message as one line; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # logging's name
        """Return the message, sanitized: ids and errors in a message may be untrusted."""
        from desist.console.format import escaped
        from desist.run.records.redact import redact

        return redact(escaped(super().formatMessage(record)))

    def formatException(  # logging's name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return the traceback, sanitized."""
        from desist.console.format import clean
        from desist.run.records.redact import redact

        return redact(clean(super().formatException(ei)))


def terminal_handler(level: int = logging.WARNING) -> logging.Handler:
    """Return a handler that writes to standard error."""
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(_SafeFormatter())
    return handler
