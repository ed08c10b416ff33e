"""`Poller`: read runs in a thread, so that drawing never waits for a database or a server.

If a server doesn't respond, the last snapshot is kept, with the time of the loss, and polling continues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from desist.cli.client import LIVE, LiveInfo, RunClient, RunFilter, RunInfo
from desist.cli.exit_codes import NotFound
from desist.exceptions import DesistError

__all__ = ["Poller", "Snapshot"]

EVERY = 0.5  #: seconds between two polls
NEWEST = 50  #: runs that are shown, besides the live ones
CLOSELY = 30  #: live runs whose steps are requested
SLOW = 3.0  #: seconds without an answer after which the server counts as lost
_STOP = 1.0  #: seconds to wait for a running poll at the end


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of one poll."""

    runs: tuple[RunInfo, ...] = ()
    chosen: RunInfo | None = None  #: the selected run, with its output
    live: LiveInfo = field(default_factory=LiveInfo)  #: the live state of the selected run
    gone: str | None = None  #: why the selected run can't be read
    lost: str | None = None  #: why polling fails at the moment
    lost_at: float | None = None  #: since when, in seconds of `time.monotonic`


class Poller:
    """Polls every half second, or on request.

    Parameters:
        client: the client to poll.
        many: whether to poll the list of runs, too.
        on_poll: called after each poll, in the thread of the poller.
    """

    def __init__(self, client: RunClient, *, many: bool, on_poll: Callable[[], object]) -> None:
        self._client, self._many, self._on_poll = client, many, on_poll
        self._wake = threading.Event()
        self._ended = False
        self._chosen: str | None = None
        self._poll_started_at: float | None = None  #: the start of the running poll; seconds of `time.monotonic`
        self._snapshot = Snapshot()
        self._thread = threading.Thread(target=self._work, name="desist-poller", daemon=True)
        self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """The last snapshot. A server that doesn't answer for `SLOW` seconds counts as lost."""
        started_at = self._poll_started_at
        if self._snapshot.lost is None and started_at is not None and time.monotonic() - started_at > SLOW:
            return replace(self._snapshot, lost=f"{self._client.name} doesn't answer", lost_at=started_at)
        return self._snapshot

    def stop(self) -> None:
        """Stop polling. A poll that waits for a server is abandoned after a second."""
        self._ended = True
        self._wake.set()
        self._thread.join(_STOP)

    def choose(self, run_id: str | None) -> None:
        """Select the run whose details are polled."""
        if run_id != self._chosen:
            self._chosen = run_id
            self._wake.set()

    def poll_now(self) -> None:
        """Poll at once."""
        self._wake.set()

    def _work(self) -> None:
        while not self._ended:
            self._wake.clear()
            self._poll_started_at = time.monotonic()
            try:
                self._snapshot = self._poll()
            except Exception:
                if self._ended:  # the client was closed meanwhile
                    return
                raise
            self._poll_started_at = None
            self._on_poll()
            self._wake.wait(EVERY)

    def _poll(self) -> Snapshot:
        before = self._snapshot
        try:
            return Snapshot(self._read_list() if self._many else (), *self._read_chosen())
        except DesistError as error:
            since = before.lost_at if before.lost_at is not None else self._poll_started_at
            return replace(before, lost=str(error), lost_at=since)

    def _read_list(self) -> tuple[RunInfo, ...]:
        """Return the live runs and the newest of the others."""
        newest = self._client.runs(RunFilter(limit=NEWEST))
        known = {run.run_id for run in newest}
        older = self._client.runs(RunFilter(statuses=LIVE)) if len(newest) == NEWEST else []
        runs = [*newest, *(run for run in older if run.run_id not in known)]
        runs.sort(key=lambda run: (not run.is_live, -run.created_at))
        return tuple(
            replace(run, steps=self._client.steps(run)) if index < CLOSELY and run.is_live else run
            for index, run in enumerate(runs)
        )

    def _read_chosen(self) -> tuple[RunInfo | None, LiveInfo, str | None]:
        if self._chosen is None:
            return None, LiveInfo(), None
        try:
            run = self._client.run(self._chosen)
            run = replace(run, steps=self._client.steps(run)) if run.is_live else run
            live = self._client.live_info(self._chosen) if run.is_live or run.cancel is not None else LiveInfo()
            return run, live, None
        except NotFound as error:
            return None, LiveInfo(), str(error)
