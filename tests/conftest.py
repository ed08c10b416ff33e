"""Fixtures of all tests: a log without errors, databases of each kind, the modes of a run, a certificate."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from cancel_trial import MODES, Journal, Mode
from database_kinds import open_database
from postgres_databases import new_postgres
from provider_requests import check_request

from desist.cancel.registry import registry
from desist.db import BaseDb
from desist.testing import LoopbackProvider

__all__ = ["new_postgres"]

LoopbackProvider.check = check_request  # every provider refuses what a real one would refuse

# Jobs in the background ignore Ctrl-C, and those of nohup a hang-up; programs inherit that. Not here: tests send these
# signals to the programs that they start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture
def is_unexpected() -> Callable[[logging.LogRecord], bool]:
    """Return the predicate of log records that fail a test. A folder whose tests log more overrides this fixture."""
    return lambda record: record.levelno >= logging.ERROR or bool(record.exc_info)


@pytest.fixture(autouse=True)
def no_logged_errors(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, is_unexpected: Callable[[logging.LogRecord], bool]
) -> Iterator[None]:
    """No test leaves an error in the log, except tests marked `loud`; no test leaves a live run."""
    caplog.set_level(logging.INFO)
    before = set(registry.live())  # runs of module-scoped fixtures
    yield
    if "loud" not in request.keywords:
        unexpected = [record.getMessage() for record in caplog.get_records("call") if is_unexpected(record)]
        assert unexpected == []
    assert set(registry.live()) - before == set()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres", "json", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    """A database of each kind."""
    opened = open_database(request.param, tmp_path, new_postgres)
    yield opened
    opened.close()


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """The four ways to call a run."""
    return request.param


@pytest.fixture
def journal() -> Journal:
    """A store that keeps each saved run as text."""
    return Journal()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate for 127.0.0.1, its key, and the certificate of the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, paths = trustme.CA(), (folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(paths[0])
    leaf.private_key_pem.write_to_path(paths[1])
    authority.cert_pem.write_to_path(paths[2])
    return paths
