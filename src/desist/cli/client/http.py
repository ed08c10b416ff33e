"""Asking a server: one client, its token, and its problems as our errors. Knows HTTP, not runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2

from desist.cli.exit_codes import NothingFound, Unreachable
from desist.exceptions import ConfigurationError, DesistError
from desist.models.http.sse import SseParser

__all__ = ["HttpClient", "ServerRefusal"]

#: Seconds to connect, and to wait for an answer; an answer that waits for a run's end has its own.
CONNECT, PATIENCE = 5.0, 30.0


class ServerRefusal(DesistError):
    """The server refuses. `status` is the HTTP status, `problem` what it says."""

    def __init__(self, message: str, status: int, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


class HttpClient:
    """A server.

    Parameters:
        url: where it is.
        token: a secret of it; None sends none.

    Raises:
        ConfigurationError: the url can't be one.
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
            base_url=self.url, headers=headers, timeout=httpx2.Timeout(PATIENCE, connect=CONNECT)
        )

    def json(self, method: str, path: str, *, read_timeout: float = PATIENCE, **request: Any) -> Any:
        """Return what the server answers.

        Raises:
            Unreachable: it doesn't.
            NothingFound: there is no such thing.
            Refusal: it doesn't do that.
        """
        timeout = httpx2.Timeout(read_timeout, connect=CONNECT)
        with self._our_errors():
            answer = self._client.request(method, path, timeout=timeout, **request)
            self._check(answer)
            return answer.json()

    @contextlib.contextmanager
    def stream(self, method: str, path: str, *, silence: float, **request: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Give the server-sent events of an answer that goes on, each as the dict that is its data.

        Parameters:
            silence: seconds without a byte after which the server counts as lost.

        Raises:
            DesistError: when they are read: the data of one isn't a JSON object.
        """
        timeout = httpx2.Timeout(PATIENCE, connect=CONNECT, read=silence)
        with self._our_errors(), self._client.stream(method, path, timeout=timeout, **request) as answer:
            if answer.is_error:
                answer.read()
            self._check(answer)
            yield self._events(answer)

    def _events(self, answer: httpx2.Response) -> Iterator[dict[str, Any]]:
        parser = SseParser()
        with self._our_errors():  # where they are read: whoever reads them may want to ask again
            for received in answer.iter_bytes():
                yield from map(_decoded, parser.feed(received))

    def _check(self, answer: httpx2.Response) -> None:
        if not answer.is_error:
            return
        try:
            problem = answer.json()
            words = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            problem, words = {}, answer.reason_phrase
        if answer.status_code == 404:
            raise NothingFound(f"{self.url}: {words}")
        if answer.status_code in (401, 403):
            words += " (a token is given in DESIST_TOKEN, or with --token)"
        raise ServerRefusal(f"{self.url}: {words}", answer.status_code, problem)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            words = str(error) or type(error).__name__
            raise Unreachable(f"{self.url} doesn't answer: {words}") from error

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise DesistError(f"the server sent an event that isn't a JSON object: {data!r:.200}")
    return event
