"""What isn't the call's goes on undisturbed; `python -m bench.foreign_work` does the same a hundred times as often."""

from __future__ import annotations

import sys

import pytest
from bench.foreign_work import cancel_beside_descriptors, cancel_beside_jobs


def test_foreign_jobs_in_a_shared_pool() -> None:
    """No job of other code is interrupted by cancels of calls whose jobs ran in the same threads just before."""
    assert cancel_beside_jobs(jobs=5000, cancels=100) == {"jobs": 5000, "failed": 0, "abandoned": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="what a thread is blocked in is known on Linux only")
def test_foreign_connections() -> None:
    """No connection of other threads is shut down, although the numbers of descriptors are reused all the time."""
    found = cancel_beside_descriptors(cancels=200)
    assert found["opened"] > 0
    assert (found["broken"], found["abandoned"]) == (0, 0)
