"""A provider with and without TLS, and its model; no traceback on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from promise_scenarios import Deaf

from desist.models.anthropic import Claude
from desist.models.http.model import HttpModel
from desist.models.openai import OpenAIChat, OpenAIResponses
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


@pytest.fixture(params=[OpenAIChat, OpenAIResponses, Claude], ids=lambda kind: kind.__name__)
def model_of_each_api(request: pytest.FixtureRequest, provider: LoopbackProvider) -> HttpModel:
    _ = request.param._sdk.module  # imported before anybody waits: it takes a second or more
    return request.param("test-model", base_url=provider.base_url, api_key="sk-test-0123456789")


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    """A call that can't be interrupted; it ends after the test at the latest."""
    deaf = Deaf()
    yield deaf
    deaf.release()


@pytest.fixture(autouse=True)
def no_printed_traceback(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No test of this folder leaves a traceback on the terminal."""
    yield
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err, out + err
