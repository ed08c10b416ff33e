"""What the tests of this folder share: the four modes, a journal, and a log without errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from cancel_trial import MODES, Journal, Mode

from desist.cancel.registry import registry


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """The four ways to call a run."""
    return request.param


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test of this folder may leave an error in the log, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    bad = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR or r.exc_info]
    assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
