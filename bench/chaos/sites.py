"""The databases that can be broken, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["open_site"]


@contextmanager
def open_site(db: str, folder: Path) -> Iterator[Any]:
    """Make one of the databases, in a folder; it is gone afterwards.

    Parameters:
        db: "sqlite" or "postgres".
    """
    from bench.chaos.sqlite_site import SqliteSite

    site = SqliteSite(folder)
    try:
        yield site
    finally:
        site.close()
