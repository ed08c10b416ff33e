"""E11: the same in runs that a worker executes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hanging_server import PATIENCE
from started_rows import ASYNC, ROWS
from started_scenario import GRACE, Place, Props, Row, step_of

from desist import RunStatus, Workflow
from desist.db import SqliteDb
from desist.engine import Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process table is read through /proc")


class Served:
    """Workflows that a worker in this process serves: one for each place, and for sync and async work."""

    def __init__(self, db: SqliteDb) -> None:
        self._work: Callable[[], Any] = lambda: None
        self._workflows = {
            (place, is_async): Workflow(
                f"{place} {is_async}", steps=[step_of(work, place, len(ROWS))], db=db, grace=GRACE, on_crash="resume"
            )
            for place in ("step", "tool")
            for is_async, work in ((False, lambda: self._work()), (True, self._await_work))
        }
        self.worker = Worker(workflows=[*self._workflows.values()], db=db, drain=0.0)

    async def _await_work(self) -> None:
        await self._work()

    def submit(self, place: Place, is_async: bool, work: Callable[[], Any]) -> Any:
        """Return what the submitted run is to be stopped by."""
        self._work = work
        return self._workflows[place, is_async].submit("go")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    db = SqliteDb(db_file=str(tmp_path_factory.mktemp("worker") / "runs.db"))
    served = Served(db)
    with served.worker:
        yield served
    db.close()


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("place", ["step", "tool"])
def test_in_a_worker(row: Row, place: Place, props: Props, served: Served) -> None:
    """A submitted run that is cancelled by its id leaves nothing behind."""
    handle = served.submit(place, row in ASYNC, lambda: row.work(props))
    row.wait_ready(props)
    receipt = handle.cancel()
    assert receipt.wait(PATIENCE) and receipt.status is RunStatus.cancelled
    assert receipt.abandoned == []
    row.check_gone(props)
