"""`JsonDb`: sessions and runs as JSON files in a folder, to be read by people and committed; for little data."""

from __future__ import annotations

from pathlib import Path

from desist.db.backends.json_folder import JsonFolder
from desist.db.shared_instances import StoredDb
from desist.db.store.table_store import TableStore

__all__ = ["JsonDb"]


class JsonDb(StoredDb[TableStore]):
    """A folder of JSON files. Each read lists the folder: for more than some thousands of runs use `SqliteDb`.

    Parameters:
        db_path: the folder; created if necessary. Default: `desist_json` in the current folder.
        timeout: seconds to wait for a write, as for `SqliteDb`.

    Raises:
        StoreError: the folder can't be created or written.
    """

    def __init__(self, db_path: str | Path | None = None, *, timeout: float = 10.0) -> None:
        path = Path(db_path if db_path is not None else "desist_json").expanduser().resolve()
        super().__init__(("json", path), lambda patience: TableStore(JsonFolder(path), patience), timeout, db_path=path)
        self.db_path = path
