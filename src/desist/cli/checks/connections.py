"""Check whether the configured database, server and port can be used."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from desist.cli.checks.result import CheckResult, State
from desist.cli.client.open import display_name, open_database
from desist.exceptions import DesistError

__all__ = ["connections"]

_result = partial(CheckResult, "connections")


def connections(
    db: str | None, server: str | None, token: str | None, port: int, *, offline: bool
) -> Iterator[CheckResult]:
    """Check a database and a server, from options or the environment, and a port of this machine."""
    yield _database(db or os.environ.get("DESIST_DB") or ("desist.db" if Path("desist.db").is_file() else None))
    if not offline:
        token = token or os.environ.get("DESIST_TOKEN") or None
        yield _server(server or os.environ.get("DESIST_SERVER") or None, token)
    yield _port(port)


def _database(database: str | None) -> CheckResult:
    if database is None:
        return _result("database", State.absent, "name one with --db or DESIST_DB")
    try:
        db: Any = open_database(database)
        try:
            report = db.check()
        finally:
            db.close()
    except DesistError as error:
        return _result("database", State.broken, str(error))
    text = f"{display_name(database)}: version {report.version}"
    if report.is_good:
        return _result("database", State.ok, text)
    return _result("database", State.broken, "; ".join([f"{text}, wanted {report.wanted}", *report.problems]))


def _server(url: str | None, token: str | None) -> CheckResult:
    if url is None:
        return _result("server", State.absent, "name one with --server or DESIST_SERVER")
    from desist.cli.client.http import HttpClient

    try:
        http = HttpClient(url, token)
        try:
            health = http.json("GET", "/health")
            http.json("GET", "/v1/runs", params={"limit": 1})
        finally:
            http.close()
    except DesistError as error:
        return _result("server", State.broken, str(error))
    closing = health.get("status") == "closing"
    text = f"{url} is shutting down: no new runs are accepted" if closing else f"{url} answers"
    return _result("server", State.weak if closing else State.ok, text)


def _port(port: int) -> CheckResult:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError as error:
        return _result(f"port {port}", State.weak, f"{error.strerror}: pass another port to desist serve with --port")
    return _result(f"port {port}", State.ok, "free for desist serve")
