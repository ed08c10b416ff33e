"""`HttpClient`: requests to a desist server, with a token, and problem responses as exceptions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from desist.cli.exit_codes import NotFound, Unreachable
from desist.exceptions import ConfigurationError, DesistError
from desist.models.http.sse import SseParser

__all__ = ["HttpClient", "ServerRefusal"]

#: Seconds to connect, and to wait for a response; a request that waits for the end of a run has its own timeout.
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 30.0


class ServerRefusal(DesistError):
    """The server refused a request. `status` is the HTTP status, `problem` the problem details of the response."""

    def __init__(self, message: str, status: int, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


class HttpClient:
    """An HTTP client of a desist server.

    Parameters:
        url: the base URL of the server.
        token: the bearer token; None sends none.

    Raises:
        ConfigurationError: the URL is invalid.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"--server {url!r} must look like http://127.0.0.1:8000")
        if parts.username or parts.password or parts.query:
            raise ConfigurationError("--server takes no user, password or query: give the token in DESIST_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._client = httpx2.Client(
            base_url=self.url, headers=headers, timeout=httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
        )

    def json(self, method: str, path: str, *, read_timeout: float = READ_TIMEOUT, **request: Any) -> Any:
        """Send a request and return the JSON of the response.

        Raises:
            Unreachable: the server doesn't respond.
            NotFound: the server responds with 404.
            ServerRefusal: the server responds with another error.
        """
        timeout = httpx2.Timeout(read_timeout, connect=CONNECT_TIMEOUT)
        with self._our_errors():
            answer = self._client.request(method, path, timeout=timeout, **request)
            self._check(answer)
            return answer.json()

    @contextlib.contextmanager
    def stream(self, method: str, path: str, *, silence: float, **request: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream of server-sent events; yield their data as dicts.

        Parameters:
            silence: seconds without a byte after which the connection counts as lost.

        Raises:
            DesistError: while reading, if the data of an event isn't a JSON object.
        """
        timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, read=silence)
        with self._our_errors(), self._client.stream(method, path, timeout=timeout, **request) as answer:
            if answer.is_error:
                answer.read()
            self._check(answer)
            yield self._events(answer)

    def _events(self, answer: httpx2.Response) -> Iterator[dict[str, Any]]:
        parser = SseParser()
        with self._our_errors():  # errors while reading are converted too: the caller may reconnect
            for received in answer.iter_bytes():
                yield from map(_decoded, parser.feed(received))

    def _check(self, answer: httpx2.Response) -> None:
        if not answer.is_error:
            return
        try:
            problem = answer.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            problem, detail = {}, answer.reason_phrase
        if answer.status_code == 404:
            raise NotFound(f"{self.url}: {detail}")
        if answer.status_code in (401, 403):
            detail += " (pass a token with --token or DESIST_TOKEN)"
        raise ServerRefusal(f"{self.url}: {detail}", answer.status_code, problem)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise Unreachable(f"{self.url} doesn't answer: {detail}") from error

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise DesistError(f"the server sent an event that isn't a JSON object: {data!r:.200}")
    return event
