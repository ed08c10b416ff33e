"""What the tests of this folder share: modes, a provider with and without TLS, and a log without errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cancel_trial import MODES, Journal, Mode

from desist.cancel.registry import registry
from desist.models.openai import OpenAIChat
from desist.testing import LoopbackProvider


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> Mode:
    """The four ways to call a run."""
    return request.param


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate for 127.0.0.1, its key, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, paths = trustme.CA(), (folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(paths[0])
    leaf.private_key_pem.write_to_path(paths[1])
    authority.cert_pem.write_to_path(paths[2])
    return paths


@pytest.fixture(params=["http", "tls"])
def provider(
    request: pytest.FixtureRequest, certificate: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackProvider]:
    """A provider on loopback, over plain HTTP and over TLS."""
    cert, key, authority = certificate
    if request.param == "tls":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with LoopbackProvider(tls=(cert, key) if request.param == "tls" else None) as provider:
        yield provider


@pytest.fixture
def model(provider: LoopbackProvider) -> OpenAIChat:
    return OpenAIChat("test-model", base_url=provider.base_url, api_key="sk-test-0123456789")


@pytest.fixture(autouse=True)
def no_logged_errors(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No test of this folder may leave an error in the log, a traceback on the terminal, or a live run."""
    caplog.set_level(logging.INFO)
    yield
    bad = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR or r.exc_info]
    assert not bad, [record.getMessage() for record in bad]
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err, out + err
    assert registry.live() == []
