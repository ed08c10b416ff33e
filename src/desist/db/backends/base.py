"""What a store needs of its storage: `SqliteBackend`, `PostgresBackend` and `JsonFolder`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from desist.db.migrations.report import SchemaReport
from desist.db.tables.sql import SqlTables
from desist.db.tables.sql_transaction import TableNames
from desist.db.writer import Backend

__all__ = ["ChangeDetector", "SharedBackend", "StorageBackend"]


class StorageBackend(Backend, Protocol):
    """Storage for one process. `Backend` has the methods of the writer's thread; these are for any thread."""

    def reading(self) -> AbstractContextManager[Any]:
        """Return the tables for one read.

        Raises:
            StoreError: they can't be read.
        """

    def close(self) -> None:
        """Close everything that reading needs."""


class ChangeDetector(Protocol):
    """Detects that others may have written. Used by one thread."""

    every: float  #: seconds between two calls of `seen`
    cheap: bool  #: a call reads no tables, so that it can be made this often although changes are notified

    def seen(self) -> bool:
        """Return whether something may have changed since the last call.

        Raises:
            StoreError: the tables can't be read.
        """

    def close(self) -> None:
        """Close what the detector needs."""


class SharedBackend(StorageBackend, Protocol):
    """Storage that processes share."""

    names: TableNames

    @property
    def poll_interval(self) -> float:
        """Seconds between two polls by a process that is not notified."""

    def reading(self) -> AbstractContextManager[SqlTables]:
        """Return the tables for one read; wait for a database that is away.

        Raises:
            StoreError: they can't be read.
        """

    def reading_shared(self) -> AbstractContextManager[SqlTables]:
        """Return the tables for a read that is repeated soon: without waiting."""

    def report(self) -> SchemaReport:
        """Check the tables."""

    def upgrade(self) -> SchemaReport:
        """Bring the tables to the version that this desist needs, and check them."""

    def changes(self) -> ChangeDetector:
        """Return a detector, for a process that follows a run of another one.

        Raises:
            StoreError: the tables can't be read.
        """

    @property
    def address(self) -> str:
        """The address by which others notify this process; "" if they can't."""

    def listen(self) -> None:
        """Begin to receive notifications. Idempotent; does not wait."""

    @property
    def pushes(self) -> bool:
        """Whether this process is notified now of what others write."""

    def wake(self, address: str) -> bool:
        """Notify a process, after the commit of what it is to read; return False if that process has ended."""
