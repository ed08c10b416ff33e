"""A server as a depot: its runs, over `/v1`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import quote

from desist.cli.client.base import How, Wanted
from desist.cli.client.http import Http, Refusal
from desist.cli.client.models import Life, Receipt, RunInfo
from desist.cli.exit_codes import NothingFound, Unreachable

__all__ = ["ServerDepot"]

#: Runs of one page; seconds that one answer may wait for a run's end; without a line, not even a ping.
PAGE, WAIT, SILENCE = 200, 20.0, 60.0
#: Seconds of silence that say: these were all events so far.
NOTHING_NEW = 0.5
#: Seconds between two tries to reach a lost server again, at most; and after which it is given up.
BACK_OFF, PATIENCE = 2.0, 60.0


class ServerDepot:
    """The runs of a server."""

    def __init__(self, http: Http) -> None:
        self.http, self.name = http, http.url

    def runs(self, wanted: Wanted) -> list[RunInfo]:
        """Return the runs that are meant, page by page."""
        found: dict[str, RunInfo] = {}
        for status in wanted.statuses or (None,):
            found.update({run.run_id: run for run in self._pages(wanted, status)})
        newest = sorted(found.values(), key=lambda run: (run.created_at, run.run_id), reverse=True)
        return newest[: wanted.limit]

    def _pages(self, wanted: Wanted, status: str | None) -> Iterator[RunInfo]:
        left, cursor = wanted.limit, None
        while left is None or left > 0:
            asked = {
                "status": status,
                "workflow": wanted.workflow,
                "agent": wanted.agent,
                "session_id": wanted.session_id,
                "user_id": wanted.user_id,
                "older_than": wanted.older_than,
                "limit": PAGE if left is None else min(left, PAGE),
                "cursor": cursor,
            }
            params = {name: value for name, value in asked.items() if value is not None}
            page = self.http.json("GET", "/v1/runs", params=params)
            yield from map(RunInfo.of, page["runs"])
            cursor = page["next"]
            left = None if left is None else left - len(page["runs"])
            if cursor is None:
                return

    def run(self, run_id: str) -> RunInfo:
        """Return a run with its output."""
        return RunInfo.of(self.http.json("GET", path_of(run_id)))

    def steps(self, run: RunInfo) -> list[str]:
        """Return what the server has said."""
        return run.steps

    def life(self, run_id: str) -> Life:
        """Return what lives of a run there."""
        try:
            return Life.of(self.http.json("GET", path_of(run_id, "/live")))
        except NothingFound:
            return Life()

    def cancel(self, run_id: str, how: How) -> Receipt:
        """Cancel a run."""
        return self._asked(run_id, how, 0.0)

    def _asked(self, run_id: str, how: How, wait: float) -> Receipt:
        body = {name: value for name, value in asdict(how).items() if value not in (None, False)}
        try:
            answer = self.http.json(
                "POST", path_of(run_id, "/cancel"), json=body, params={"wait": wait}, patience=wait + 30.0
            )
        except NothingFound:
            return Receipt(run_id=run_id, outcome="unknown")
        except Refusal as refused:
            if refused.status != 409 or "run_status" not in refused.problem:
                raise
            return Receipt(run_id=run_id, outcome="finished", status=refused.problem["run_status"])
        return Receipt.of(answer)

    def settled(self, receipt: Receipt, seconds: float | None) -> Receipt:
        """Ask for the same cancel again, which changes nothing, and let the server wait."""
        end = None if seconds is None else time.monotonic() + seconds
        while receipt and not receipt.is_settled:
            left = WAIT if end is None else min(WAIT, end - time.monotonic())
            if left <= 0:
                break
            outcome = receipt.outcome
            receipt = replace(self._asked(receipt.run_id, How(), left), outcome=outcome)
        return receipt

    def events(self, run_id: str, *, after: int | None, follow: bool) -> Generator[dict[str, Any], None, None]:
        """Return the events of a run. A lost server is tried again, from the last event on: none is lost or doubled."""
        pause, heard_at, ended = 0.0, time.monotonic(), False
        while not ended:
            try:
                for event in self._stream(run_id, after, SILENCE if follow else NOTHING_NEW):
                    after, pause, heard_at = event.get("event_index", after), 0.0, time.monotonic()
                    yield event
                ended = True
            except Unreachable:
                if not follow:
                    return  # these were all
                if time.monotonic() - heard_at > SILENCE + PATIENCE:
                    raise
                time.sleep(pause)
                pause = min(BACK_OFF, pause * 2 or 0.25)

    def _stream(self, run_id: str, after: int | None, silence: float) -> Iterator[dict[str, Any]]:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.http.stream("GET", path_of(run_id, "/events"), silence=silence, headers=headers) as events:
            yield from events

    def close(self) -> None:
        """Close its connections."""
        self.http.close()


def path_of(run_id: str, more: str = "") -> str:
    """Return the path of a run."""
    return f"/v1/runs/{quote(run_id, safe='')}{more}"
