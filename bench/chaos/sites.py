"""The databases that can be broken, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.chaos.controller import Site
from bench.chaos.postgres_site import PostgresSite
from bench.chaos.sqlite_site import SqliteSite

__all__ = ["open_site"]


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
