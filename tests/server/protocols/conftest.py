"""Databases of servers, and the verifier of AG-UI's own client, which needs node."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from postgres_databases import missing

from desist.db import InMemoryDb, SqliteDb

if TYPE_CHECKING:
    from agui_reference_client import Judge

HERE = Path(__file__).parent


CLIENT = "@ag-ui/client@1.0.0"


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    from agui_reference_client import Judge

    if shutil.which("npm") is None or shutil.which("node") is None:
        missing("npm", "node and npm aren't installed")
    assert request.config.cache is not None
    packages = request.config.cache.mkdir("ag-ui-client-1.0.0")
    if not (packages / "complete").exists():
        (packages / "package.json").write_text("{}")
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", CLIENT]
        try:
            done = subprocess.run(install, cwd=packages, capture_output=True, text=True, timeout=50)
        except subprocess.TimeoutExpired:
            missing("npm", f"npm can't install {CLIENT} in 50 s")
        if done.returncode != 0:
            missing("npm", f"npm can't install {CLIENT}: {done.stderr[:200]}")
        (packages / "complete").touch()
    found = Judge(packages)
    yield found
    found.close()


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InMemoryDb | SqliteDb]:
    """The database of a server: in memory, or shared with other processes."""
    made = InMemoryDb() if request.param == "memory" else SqliteDb(tmp_path / "runs.db")
    yield made
    made.close()


@pytest.fixture
def is_unexpected() -> Callable[[logging.LogRecord], bool]:
    """The MCP client logs an error when a server ends during a request."""
    return lambda record: record.levelno >= logging.ERROR and not record.name.startswith("mcp.client")
