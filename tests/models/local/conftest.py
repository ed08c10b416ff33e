"""Skips what needs the local model where it isn't installed, and says so."""

import pytest

from desist.exceptions import ConfigurationError
from desist.models.local.server import LocalServer, ServerSettings
from desist.models.local.weights import find_weights, refuse_missing_runtime


def _missing() -> str | None:
    try:
        refuse_missing_runtime()
        find_weights()
    except ConfigurationError as error:
        return str(error).splitlines()[0]
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if reason is not None and item.get_closest_marker("local") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def server() -> LocalServer:
    """The server that `LocalChat()` uses, too."""
    return LocalServer.shared(ServerSettings())
