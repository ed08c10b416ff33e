"""A disk that fills up in mid-run, a file that vanishes, tables that are dropped: the run goes on, and nothing lies."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from events_workflows import PIECES, story, texts
from raw_tables import execute

from desist import Workflow
from desist.db import SqliteDb
from desist.exceptions import StoreError
from desist.run.events.base import RunStatus
from desist.testing import Gate

S = RunStatus
pytestmark = pytest.mark.loud


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True)
    if not made or made.returncode != 0:
        pytest.skip("a small disk can't be made here: that needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill(folder: Path) -> Path:
    """Use up what is free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return ballast


def big(gate: Gate, db: SqliteDb) -> Workflow:
    """A run whose end takes more room than there is left in the file's own."""

    async def work(_: Any) -> str:
        await gate.wait()
        return "x" * 100_000

    return Workflow("Big", steps=[work], db=db)


def test_a_full_disk(small: Path) -> None:
    """The run ends as it would, its end is told as not stored; when there is room again it is stored after all."""
    db = SqliteDb(small / "runs.db", timeout=5)
    gate = Gate()
    reader = big(gate, db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    db.flush()
    ballast = fill(small)
    gate.open()
    *_, last = reader
    assert last.status is S.completed and "the disk is full" in last.run_output.store_error
    assert [event.status for event in db.follow("r") if event.is_terminal] == [S.completed], "from here it is told"
    assert db.get_run("r").status is S.completed
    ballast.unlink()
    assert story(_open(), db).run("go").store_error is None
    db.flush()
    place = str(small / "runs.db")
    assert execute(place, "SELECT status FROM desist_runs WHERE run_id = 'r'") == [("COMPLETED",)]
    assert execute(place, "SELECT count(*) FROM desist_events WHERE run_id = 'r' AND terminal = 1") == [(1,)]
    db.close()


def _open() -> Gate:
    gate = Gate()
    gate.open()
    return gate


def test_a_cancel_on_a_full_disk(small: Path) -> None:
    """A cancel of a run of one's own is carried out at once, full disk or not; another process's isn't accepted."""
    db = SqliteDb(small / "runs.db", timeout=5)
    gate = Gate()
    reader = big(gate, db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    db.flush()
    ballast = fill(small)
    assert db.cancel("r", reason="stop").wait(30)
    *_, last = reader
    assert last.status is S.cancelled
    with pytest.raises(StoreError, match="full"):
        for number in range(1000):  # each needs some bytes; in the end there are none
            db.cancel(f"somebody else's {number}", reason="x" * 500)
    ballast.unlink()
    db.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_vanishes(tmp_path: Path, how: str) -> None:
    """SQLite would write on into a file that nobody finds any more: that is told as not stored."""
    file = tmp_path / "runs.db"
    db, gate = SqliteDb(file, timeout=5), Gate()
    reader = story(gate, db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    db.flush()
    for one in tmp_path.glob("runs.db*"):
        one.rename(one.with_name(f"gone-{one.name}"))
    if how == "replaced":
        SqliteDb(file.with_name("other.db")).close()
        file.with_name("other.db").rename(file)
    gate.open()
    *_, last = reader
    assert last.status is S.completed and "was removed or replaced" in last.run_output.store_error
    with pytest.raises(StoreError, match="removed or replaced"):
        db.cancel("another")
    db.close()


def test_tables_that_are_dropped(tmp_path: Path) -> None:
    """Who drops the events under a run: it goes on to its end, all is told to its reader, and it says so."""
    db, gate = SqliteDb(tmp_path / "runs.db", timeout=5), Gate()
    reader = story(gate, db).run("go", run_id="r", stream=True)
    gate.wait_reached()
    db.flush()
    execute(str(tmp_path / "runs.db"), "DROP TABLE desist_events")
    gate.open()
    events = list(reader)
    assert texts(events) == list(PIECES)
    assert "no such table" in events[-1].run_output.store_error
    db.close()
