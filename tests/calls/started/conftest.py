"""What the work of these tests uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from started_scenario import Props


@pytest.fixture
def props() -> Iterator[Props]:
    props = Props()
    yield props
    props.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What an interrupt finds half made is closed when collected; a fork of a process with threads is what some do."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"))
