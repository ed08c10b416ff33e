"""`JsonDb`: sessions and runs as JSON files in a folder, to look at and to commit; for little data."""

from __future__ import annotations

from pathlib import Path

from desist.db.shared_instances import StoredDb
from desist.db.store.table_store import TableStore
from desist.db.tables.json import JsonFolder

__all__ = ["JsonDb"]


class JsonDb(StoredDb[TableStore]):
    """A folder of JSON files. Each look lists the folder: beyond some thousands of runs use `SqliteDb`.

    Parameters:
        db_path: the folder; made if it isn't there. Default: `desist_json` in the folder where the program runs.
        timeout: seconds after which whoever waits for a write is told that it isn't done.

    Raises:
        StoreError: the folder can't be made or written.
    """

    def __init__(self, db_path: str | Path | None = None, *, timeout: float = 10.0) -> None:
        path = Path(db_path if db_path is not None else "desist_json").expanduser().resolve()
        super().__init__(("json", path), lambda patience: TableStore(JsonFolder(path), patience), timeout, db_path=path)
        self.db_path = path
