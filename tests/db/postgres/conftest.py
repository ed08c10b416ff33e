"""Postgres servers, empty schemas, and workers on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from database_worker import Worker
from postgres_databases import own_server, server

from desist.db import PostgresDb
from desist.testing import LocalPostgres


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
def worker(url: str, workers: Callable[[str], Worker]) -> Callable[[], Worker]:
    return lambda: workers(url)
