"""A run on a server. It lives there, and stops when nobody follows it any more: so does a run at a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any

from desist.cancel.reason import Source
from desist.cli.client.base import CancelOptions
from desist.cli.client.http import HttpClient
from desist.cli.client.server import SILENCE, ServerClient
from desist.cli.exit_codes import Unreachable
from desist.cli.foreground.base import SentEvent, revived
from desist.cli.options import login
from desist.console.format import count
from desist.exceptions import DesistError

__all__ = ["RemoteRun"]


class RemoteRun:
    """A run that a server has begun.

    Parameters:
        http: the server.
        path, body: how to ask for the run; the answer is its events.

    Raises:
        Unreachable: the server doesn't answer. If it has begun the run all the same, that stops, as nobody follows it.
        NothingFound, DesistError: it doesn't begin such a run.
    """

    def __init__(self, http: HttpClient, path: str, body: dict[str, Any]) -> None:
        self._http, self._depot = http, ServerClient(http)
        self._said: dict[str, Any] = {}
        self.began_at = time.monotonic()
        self._stack = contextlib.ExitStack()
        asked = {**body, "stream": True, "on_disconnect": "cancel"}
        with contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(http.stream("POST", path, silence=SILENCE, json=asked))
            self._first = next(self._stream, None)
            if self._first is None:
                raise DesistError(f"{http.url} began no run")
            self._stack = stack.pop_all()
        self.run_id = str(self._first["run_id"])

    def events(self) -> Generator[SentEvent, None, None]:
        """Return its events; a lost server is tried again, and no event is lost or told twice."""
        with self._stack:
            for data in self._all():
                yield SentEvent(revived(data), data)

    def _all(self) -> Iterator[dict[str, Any]]:
        assert self._first is not None
        yield self._first
        last = self._first.get("event_index")
        try:
            for data in self._stream:
                last = data.get("event_index", last)
                yield data
        except Unreachable:
            yield from self._depot.events(self.run_id, after=last, follow=True)

    def stop(self, source: Source, text: str, *, force: bool) -> str | None:
        """Ask the server to cancel it."""
        try:
            receipt = self._depot.cancel(self.run_id, CancelOptions(reason=text, by=login(), force=force))
            self._said = receipt.plain()
        except DesistError as error:
            return f"{error}; the run is stopped when nobody has followed it for 5 s"
        return None

    def doing(self) -> str:
        """Say what the receipt says."""
        closed = self._said.get("upstream_closed")
        return f"{count(closed, 'connection')} closed" if closed else self._said.get("outcome", "asking the server")

    def output(self) -> dict[str, Any]:
        """Return its output."""
        return self._depot.run(self.run_id).output or {}

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()
        self._http.close()
