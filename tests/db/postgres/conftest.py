"""What the tests of Postgres share: servers, places for tables, workers, and a log without errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from journal_process import Worker
from postgres_databases import new_postgres, own_server, server

from desist.cancel.registry import registry
from desist.db import PostgresDb
from desist.testing import LocalPostgres

__all__ = ["new_postgres"]


@pytest.fixture
def postgres() -> LocalPostgres:
    """The server that tests share: not to be stopped."""
    return server()


@pytest.fixture
def own() -> Iterator[LocalPostgres]:
    """A server of the test's own, that may be stopped."""
    made = own_server()
    with made:
        yield made


@pytest.fixture
def url(new_postgres: Callable[[], str]) -> str:
    """An empty place for tables."""
    return new_postgres()


@pytest.fixture
def db(url: str) -> Iterator[PostgresDb]:
    opened = PostgresDb(url, timeout=20)
    yield opened
    opened.close()


@pytest.fixture
def workers() -> Iterator[Callable[[str], Worker]]:
    """Starts workers on a place; ends them."""
    started: list[Worker] = []

    def start(place: str) -> Worker:
        started.append(Worker(place))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def worker(url: str, workers: Callable[[str], Worker]) -> Callable[[], Worker]:
    return lambda: workers(url)


@pytest.fixture(autouse=True)
def no_logged_errors(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may leave an error in the log, unless it says so, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    if "loud" not in request.keywords:
        bad = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
        assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
