"""What the tests of this folder share: the three APIs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # under either import mode of pytest

from http_speech import SPEECHES, Speech


@pytest.fixture(params=SPEECHES, ids=str)
def speech(request: pytest.FixtureRequest) -> Speech:
    """Each of the APIs."""
    return request.param
