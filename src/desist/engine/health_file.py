"""`HealthFile`: a file that is touched as long as a worker process is healthy, for the probes of a container platform.

The loop that executes the runs touches the file itself: a file that is older than a minute means that the process
hangs. A database that can't be reached leaves a worker healthy, because a restart would not help.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from desist.exceptions import ConfigurationError
from desist.runtime.background_loop import background_loop

__all__ = ["HealthFile"]

log = logging.getLogger("desist.engine")

#: Seconds between two touches.
INTERVAL = 5.0


class HealthFile:
    """A file with the id of this process. Exists between `start` and `stop`."""

    def __init__(self, path: Path, interval: float = INTERVAL) -> None:
        self._path, self._interval = path, interval
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Create the file and begin to touch it.

        Raises:
            ConfigurationError: the file can't be written.
        """
        try:
            self._path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigurationError(f"the health file {self._path} can't be written: {error.strerror}") from error
        self._loop = background_loop.loop()
        self._loop.call_soon_threadsafe(self._touch)

    def _touch(self) -> None:
        """Touch the file, and again later. On the loop."""
        loop = self._loop
        if loop is None:
            return
        try:
            os.utime(self._path)
        except OSError as error:
            log.warning("the health file %s can't be touched: %s", self._path, error)
        loop.call_later(self._interval, self._touch)

    def stop(self) -> None:
        """Stop touching the file, and delete it."""
        self._loop = None
        self._path.unlink(missing_ok=True)
