"""No test of the server may leave a live run or an error in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from desist.cancel.registry import registry


@pytest.fixture(autouse=True)
def no_logged_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    if "loud" not in request.keywords:
        bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
        assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
