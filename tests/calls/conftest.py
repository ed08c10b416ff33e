"""Servers that hang, with and without TLS; and no test of this folder leaves an error in the log or a live run."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from calls_scenario import LateEnds
from hanging_server import HangingServer

from desist.cancel.registry import registry


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, Path]]:
    """The certificate of an authority, and a certificate for 127.0.0.1 with its key."""
    folder = tmp_path_factory.mktemp("tls")
    maker, root, cert, key = trustme.CA(), folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    leaf = maker.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    maker.cert_pem.write_to_path(root)
    return root, (cert, key)


@pytest.fixture
def server() -> Iterator[HangingServer]:
    server = HangingServer()
    yield server
    server.close()


@pytest.fixture
def tls_server(authority: tuple[Path, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[0]))
    server = HangingServer(authority[1])
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


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warnings of this test count


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    ours = [record for record in caplog.get_records("call") if record.name.startswith("desist")]
    bad = [record for record in ours if record.levelno >= logging.ERROR or record.exc_info]
    assert not bad, [record.getMessage() for record in bad]
    assert registry.live() == []
