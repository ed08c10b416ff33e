"""A provider with and without TLS, and its model; no traceback on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from desist.models.openai import OpenAIChat
from desist.testing import LoopbackProvider


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
def no_printed_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No test of this folder leaves a traceback on the terminal."""
    yield
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err, out + err
