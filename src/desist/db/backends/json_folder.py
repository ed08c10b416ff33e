"""A folder of JSON files as storage. A lock file lets one process write at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from desist.db.tables.json import JsonTables
from desist.db.writer import BackendBusy, WriteJob
from desist.exceptions import ConfigurationError, StoreError

__all__ = ["JsonFolder"]

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


class JsonFolder:
    """A folder.

    Raises:
        ConfigurationError: this system can't lock files.
        StoreError: the folder can't be created or written.
    """

    apart = False

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise ConfigurationError(f"{path}: JsonDb needs a POSIX system, which locks files: use SqliteDb here")
        self.path, self.name = path, str(path)
        try:
            for folder in ("runs", "parts", "sessions"):
                (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)  # runs have what users said
            self._lock_file().close()
        except OSError as error:
            raise StoreError(f"{path}: the folder can't be used: {error}") from error

    def _lock_file(self) -> Any:
        return (self.path / ".lock").open("a")

    def write(self, jobs: Sequence[WriteJob]) -> list[Any]:
        """Do the jobs. Each file changes as a whole; files that were changed before a job failed stay changed."""
        try:
            with self._lock_file() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise BackendBusy("another process writes") from error
                try:
                    tables = JsonTables(self.path, durable=any(job.durable for job in jobs))
                    return [job.work(tables) for job in jobs]
                finally:  # closing the file is not enough: a child that was forked meanwhile has the file open, too
                    fcntl.flock(lock, fcntl.LOCK_UN)
        except OSError as error:
            raise StoreError(f"{self.name}: {error}") from error

    def detach(self) -> Callable[[], None]:
        """Do nothing: nothing is open between two transactions."""
        return lambda: None

    @contextmanager
    def reading(self) -> Iterator[JsonTables]:
        """Return the tables for one read."""
        try:
            yield JsonTables(self.path, durable=False)
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """Do nothing: nothing is open."""
