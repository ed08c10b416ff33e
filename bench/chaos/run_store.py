"""Where the harness's runs are recorded: how any of its processes opens that, from one word on its command line."""

from __future__ import annotations

import time
from typing import Any

from desist.db import PostgresDb, SqliteDb
from desist.exceptions import StoreError

__all__ = ["PATIENCE", "open_db"]

#: Seconds that the harness's processes wait for a write: longer than any fault lasts.
PATIENCE = 20.0


def open_db(url: str) -> Any:
    """Open a database by its URL; one that is broken just now is tried again, as whoever starts programs would."""
    kind: Any = PostgresDb if url.startswith("postgresql") else SqliteDb
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return kind(db_url=url, timeout=PATIENCE)
        except StoreError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
