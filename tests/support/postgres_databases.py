"""A real Postgres on loopback for the tests of any folder, started once; each test makes tables in a schema of its own.

A conftest that wants it imports `new_postgres`.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
from collections.abc import Callable

import pytest

from desist.testing import LocalPostgres

__all__ = ["missing", "new_postgres", "server"]

_numbers = itertools.count()


def missing(what: str, why: str) -> None:
    """Skip a test whose component isn't here; fail it where `DESIST_REQUIRE` names that."""
    if what in os.environ.get("DESIST_REQUIRE", "").split(","):
        pytest.fail(f"DESIST_REQUIRE names {what}, but {why}")
    pytest.skip(why)


@functools.cache
def server() -> LocalPostgres:
    """Return the server that tests share; who stops one makes one of its own."""
    made = own_server()
    atexit.register(made.close)
    made.start()
    return made


def own_server(**settings: object) -> LocalPostgres:
    """Return a server, not started, with these settings."""
    if LocalPostgres.binaries() is None:
        missing("postgres", "Postgres isn't installed (Debian: postgresql)")
    return LocalPostgres(settings=settings)


@pytest.fixture
def new_postgres() -> Callable[[], str]:
    """Makes an empty place for tables and returns its URL."""
    return lambda: server().new_schema(f"test{next(_numbers)}")
