"""`RemoteRun`: a foreground run on a server. The server cancels the run when its last reader has disconnected."""

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
from desist.cli.foreground.base import SentEvent, event_from_server
from desist.cli.options import login
from desist.console.format import count
from desist.exceptions import DesistError

__all__ = ["RemoteRun"]


class RemoteRun:
    """A run that this command has started on a server.

    Parameters:
        http: the client of the server.
        path, body: the request that starts the run; the response is the stream of its events.

    Raises:
        Unreachable: the server doesn't respond. If the run has been started nevertheless, the server cancels
            it, because it has no reader.
        NotFound, DesistError: the server refuses to start the run.
    """

    def __init__(self, http: HttpClient, path: str, body: dict[str, Any]) -> None:
        self._http, self._client = http, ServerClient(http)
        self._receipt: dict[str, Any] = {}
        self.began_at = time.monotonic()
        self._stack = contextlib.ExitStack()
        request = {**body, "stream": True, "on_disconnect": "cancel"}
        with contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(http.stream("POST", path, silence=SILENCE, json=request))
            self._first = next(self._stream, None)
            if self._first is None:
                raise DesistError(f"{http.url} returned no events: the run was not started")
            self._stack = stack.pop_all()
        self.run_id = str(self._first["run_id"])

    def events(self) -> Generator[SentEvent, None, None]:
        """Return the events. A lost connection is reopened, and no event is lost or duplicated."""
        with self._stack:
            for data in self._all():
                yield SentEvent(event_from_server(data), data)

    def _all(self) -> Iterator[dict[str, Any]]:
        assert self._first is not None
        yield self._first
        last = self._first.get("event_index")
        try:
            for data in self._stream:
                last = data.get("event_index", last)
                yield data
        except Unreachable:
            yield from self._client.events(self.run_id, after=last, follow=True)

    def cancel(self, source: Source, text: str, *, force: bool) -> str | None:
        try:
            receipt = self._client.cancel(self.run_id, CancelOptions(reason=text, by=login(), force=force))
            self._receipt = receipt.plain()
        except DesistError as error:
            return f"{error}; the server cancels the run when no client has followed it for 5 s"
        return None

    def progress(self) -> str:
        closed = self._receipt.get("upstream_closed")
        return (
            f"{count(closed, 'connection')} closed"
            if closed
            else self._receipt.get("outcome", "waiting for the server")
        )

    def output(self) -> dict[str, Any]:
        return self._client.run(self.run_id).output or {}

    def close(self) -> None:
        self._stack.close()
        self._http.close()
