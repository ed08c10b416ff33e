"""Servers that hang, with and without TLS, and the log records that these tests may leave."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calls_scenario import LateEnds
from hanging_server import HangingServer


@pytest.fixture
def server() -> Iterator[HangingServer]:
    server = HangingServer()
    yield server
    server.close()


@pytest.fixture
def tls_server(certificate: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingServer]:
    cert, key, authority = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    server = HangingServer((cert, key))
    yield server
    server.close()


@pytest.fixture
def late_ends() -> Iterator[LateEnds]:
    handler = LateEnds()
    logger = logging.getLogger("desist.cancel")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An interrupt can land in the `__exit__` of a `with`: then what that was to close is closed when collected."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture
def is_unexpected() -> Callable[[logging.LogRecord], bool]:
    """Only records of desist count: libraries report connections that a cancel closed."""
    return lambda record: (
        record.name.startswith("desist") and (record.levelno >= logging.ERROR or bool(record.exc_info))
    )


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warnings of this test count
