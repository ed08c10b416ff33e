"""What the tests of this folder share: the three APIs."""

from __future__ import annotations

import pytest
from http_dialects import SPEECHES, Speech


@pytest.fixture(params=SPEECHES, ids=str)
def speech(request: pytest.FixtureRequest) -> Speech:
    """Each of the APIs."""
    return request.param
