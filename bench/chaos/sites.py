"""The databases that can be broken, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.chaos.postgres_site import PostgresSite
from bench.chaos.sqlite_site import SqliteSite

__all__ = ["Site", "open_site"]


class Site(Protocol):
    """A database that can be broken; it has a method for each of its faults."""

    url: str
    spared: tuple[str, ...]

    def wrong(self) -> list[str]:
        """Return what is wrong with the database itself, at the end."""


@contextmanager
def open_site(db: str, folder: Path) -> Iterator[Site]:
    """Make one of the databases, in a folder; it is gone afterwards.

    Parameters:
        db: "sqlite" or "postgres".
    """
    site = PostgresSite(folder) if db == "postgres" else SqliteSite(folder)
    try:
        yield site
    finally:
        site.close()
