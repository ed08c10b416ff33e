"""Files beside a SQLite database that are removed while it is used: said as an error, nothing is lost in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from desist import Workflow
from desist.db import SqliteDb
from desist.exceptions import StoreError

pytestmark = pytest.mark.loud


def run(db: SqliteDb, run_id: str) -> str | None:
    """Return why the end of a run isn't known to be stored."""
    output = Workflow("W", steps=[lambda step_input: "done"], db=db).run("go", run_id=run_id)
    assert output.content == "done"
    return output.store_error


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_log_that_is_removed_in_use_is_noticed(tmp_path: Path, end: str, how: str) -> None:
    """No write is said to be stored that went into a log that is gone, and no look shows what another log has."""
    db = SqliteDb(tmp_path / "runs.db", timeout=5)
    assert run(db, "before") is None
    assert db.get_run("before").content == "done"  # a connection for looks is open, too
    beside = tmp_path / f"runs.db{end}"
    beside.rename(tmp_path / "gone")
    if how == "replaced":
        beside.touch()
    error = run(db, "after")
    assert error is not None and "was removed or replaced while it was in use" in error
    with pytest.raises(StoreError, match="was removed or replaced"):
        db.get_run("before")
    db.close()


def test_a_log_that_goes_by_itself_is_no_error(tmp_path: Path) -> None:
    """When nobody has the database open, SQLite removes its log; the next one who opens it makes another."""
    place = tmp_path / "runs.db"
    for number in range(3):
        db = SqliteDb(place)
        assert run(db, f"r{number}") is None
        db.close()
        assert not place.with_name("runs.db-wal").exists()
    db = SqliteDb(place)
    assert [db.get_run(f"r{number}").content for number in range(3)] == ["done"] * 3
    store = db._table_store
    for _ in range(2):  # the writer's connection goes when it has nothing to do
        assert run(db, "again") is None
        store.backend.detach()()
    db.close()
