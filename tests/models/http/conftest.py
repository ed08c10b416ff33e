"""What the tests of this folder share: the three APIs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_dialects import SPEECHES, Speech
from wire import wire


@pytest.fixture(params=SPEECHES, ids=str)
def speech(request: pytest.FixtureRequest) -> Speech:
    """Each of the APIs."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _wire_closed() -> Iterator[None]:
    """Close the server of `wire.read` after the last test, if there was any."""
    yield
    if wire.cache_info().currsize:
        wire().close()
