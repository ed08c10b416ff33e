"""E1 to E5, E8, E10, E11: all that a call has started is gone when the receipt has settled with nothing abandoned.

The receipt is checked from outside: by the process table, the server's connections, and heartbeats of the work.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from started_rows import ASYNC, ROWS
from started_scenario import Place, Props, Row, Run, Way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process table is read through /proc")
rows = pytest.mark.parametrize("row", ROWS, ids=str)


def check(row: Row, props: Props, place: Place, way: Way) -> Any:
    async def work_async() -> None:
        await row.work(props)

    work = work_async if row in ASYNC else lambda: row.work(props)
    run = Run(work, place=place, way=way).start()
    row.wait_ready(props)
    receipt = run.stop()
    assert receipt.abandoned == [], receipt.abandoned
    row.check_gone(props)
    run.wait_over()
    return receipt


@rows
@pytest.mark.parametrize("place", ["step", "tool"])
@pytest.mark.parametrize("way", ["run", "arun"])
def test_both_faces(row: Row, place: Place, way: Way, props: Props) -> None:
    """In a step's function and in a tool, under `run()` and under `arun()`."""
    check(row, props, place, way)


@rows
@pytest.mark.parametrize(
    ("place", "way"), [("step", "parallel run"), ("tool", "parallel arun"), ("tool", "background")]
)
def test_other_situations(row: Row, place: Place, way: Way, props: Props) -> None:
    """In a branch of a Parallel, and in a run in the background."""
    check(row, props, place, way)
