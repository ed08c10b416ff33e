"""`ServerClient`: the runs of a server, over its `/v1` API."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import quote

from desist.cli.client.base import CancelOptions, RunFilter
from desist.cli.client.http import HttpClient, ServerRefusal
from desist.cli.client.models import LiveInfo, ReceiptInfo, RunInfo
from desist.cli.exit_codes import NotFound, Unreachable

__all__ = ["ServerClient"]

#: Runs per page; seconds that one request waits for the end of a run; seconds without a line, not even a ping.
PAGE, WAIT, SILENCE = 200, 20.0, 60.0
#: Seconds of silence after which all present events have been received.
NOTHING_NEW = 0.5
#: The longest delay between two attempts to reconnect, and the time after which reconnecting fails, in seconds.
BACK_OFF, RECONNECT_TIMEOUT = 2.0, 60.0


class ServerClient:
    """A client of a server."""

    def __init__(self, http: HttpClient) -> None:
        self.http, self.name = http, http.url

    def runs(self, run_filter: RunFilter) -> list[RunInfo]:
        """Return the matching runs, read page by page."""
        found: dict[str, RunInfo] = {}
        for status in run_filter.statuses or (None,):
            found.update({run.run_id: run for run in self._pages(run_filter, status)})
        newest = sorted(found.values(), key=lambda run: (run.created_at, run.run_id), reverse=True)
        return newest[: run_filter.limit]

    def _pages(self, run_filter: RunFilter, status: str | None) -> Iterator[RunInfo]:
        left, cursor = run_filter.limit, None
        while left is None or left > 0:
            fields = {
                "status": status,
                "workflow": run_filter.workflow,
                "agent": run_filter.agent,
                "session_id": run_filter.session_id,
                "user_id": run_filter.user_id,
                "older_than": run_filter.older_than,
                "limit": PAGE if left is None else min(left, PAGE),
                "cursor": cursor,
            }
            params = {name: value for name, value in fields.items() if value is not None}
            page = self.http.json("GET", "/v1/runs", params=params)
            yield from map(RunInfo.of, page["runs"])
            cursor = page["next"]
            left = None if left is None else left - len(page["runs"])
            if cursor is None:
                return

    def run(self, run_id: str) -> RunInfo:
        return RunInfo.of(self.http.json("GET", path_of(run_id)))

    def steps(self, run: RunInfo) -> list[str]:
        """Return the open steps that the server sent with the run."""
        return run.steps

    def live_info(self, run_id: str) -> LiveInfo:
        """Return the live state of a run on the server."""
        try:
            return LiveInfo.of(self.http.json("GET", path_of(run_id, "/live")))
        except NotFound:
            return LiveInfo()

    def cancel(self, run_id: str, options: CancelOptions) -> ReceiptInfo:
        return self._request_cancel(run_id, options, 0.0)

    def _request_cancel(self, run_id: str, options: CancelOptions, wait: float) -> ReceiptInfo:
        body = {name: value for name, value in asdict(options).items() if value not in (None, False)}
        try:
            answer = self.http.json(
                "POST", path_of(run_id, "/cancel"), json=body, params={"wait": wait}, read_timeout=wait + 30.0
            )
        except NotFound:
            return ReceiptInfo(run_id=run_id, outcome="unknown")
        except ServerRefusal as refused:
            if refused.status != 409 or "run_status" not in refused.problem:
                raise
            return ReceiptInfo(run_id=run_id, outcome="finished", status=refused.problem["run_status"])
        return ReceiptInfo.of(answer)

    def wait_settled(self, receipt: ReceiptInfo, seconds: float | None) -> ReceiptInfo:
        """Repeat the cancel request, which has no further effect, and let the server wait for the end of the run."""
        end = None if seconds is None else time.monotonic() + seconds
        while receipt and not receipt.is_settled:
            left = WAIT if end is None else min(WAIT, end - time.monotonic())
            if left <= 0:
                break
            outcome = receipt.outcome
            receipt = replace(self._request_cancel(receipt.run_id, CancelOptions(), left), outcome=outcome)
        return receipt

    def events(self, run_id: str, *, after: int | None, follow: bool) -> Generator[dict[str, Any], None, None]:
        """Return the events of a run.

        A lost connection is reopened after the last event, so that no event is lost or duplicated.
        """
        pause, received_at, ended = 0.0, time.monotonic(), False
        while not ended:
            try:
                for event in self._stream(run_id, after, SILENCE if follow else NOTHING_NEW):
                    after, pause, received_at = event.get("event_index", after), 0.0, time.monotonic()
                    yield event
                ended = True
            except Unreachable:
                if not follow:
                    return  # all present events were received
                if time.monotonic() - received_at > SILENCE + RECONNECT_TIMEOUT:
                    raise
                time.sleep(pause)
                pause = min(BACK_OFF, pause * 2 or 0.25)

    def _stream(self, run_id: str, after: int | None, silence: float) -> Iterator[dict[str, Any]]:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.http.stream("GET", path_of(run_id, "/events"), silence=silence, headers=headers) as events:
            yield from events

    def close(self) -> None:
        self.http.close()


def path_of(run_id: str, more: str = "") -> str:
    """Return the path of a run."""
    return f"/v1/runs/{quote(run_id, safe='')}{more}"
