"""Asks a depot what there is, beside the drawing: threads that look, keep what they saw, and are never in the way.

A depot that is lost keeps its last look, and says since when it is lost; it is asked again until it is there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from desist.cli.client import LIVE, LiveInfo, RunClient, RunFilter, RunInfo
from desist.cli.client.run_tree import RunTree
from desist.cli.exit_codes import NothingFound
from desist.exceptions import DesistError

__all__ = ["Listener", "Poller", "Snapshot"]

EVERY = 0.5  #: seconds between two looks
NEWEST = 50  #: runs that are shown, beside those that live
CLOSELY = 30  #: live runs whose steps are looked for
SLOW = 3.0  #: seconds without an answer after which the depot counts as lost
_STOP = 1.0  #: seconds to wait for a look when it ends


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen."""

    runs: tuple[RunInfo, ...] = ()
    chosen: RunInfo | None = None  #: the run that is looked at closely, with its output
    life: LiveInfo = field(default_factory=LiveInfo)  #: of that one
    gone: str | None = None  #: why that one can't be looked at
    lost: str | None = None  #: why nothing can be seen at the moment
    lost_at: float | None = None  #: since when, in seconds of `time.monotonic`


class Poller:
    """Looks every half second, or when it is told to.

    Parameters:
        depot: where.
        many: whether to look at the list, too.
        seen: called after each look, in its thread.
    """

    def __init__(self, client: RunClient, *, many: bool, seen: Callable[[], object]) -> None:
        self._client, self._many, self._seen = client, many, seen
        self._wake = threading.Event()
        self._ended = False
        self._chosen: str | None = None
        self._asked_at: float | None = None  #: when the look that is being taken began; seconds of `time.monotonic`
        self._look = Snapshot()
        self._thread = threading.Thread(target=self._work, name="desist-lookout", daemon=True)
        self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """What was seen last. A depot that doesn't answer for long counts as lost, too."""
        asked_at = self._asked_at
        if self._look.lost is None and asked_at is not None and time.monotonic() - asked_at > SLOW:
            return replace(self._look, lost=f"{self._client.name} doesn't answer", lost_at=asked_at)
        return self._look

    def stop(self) -> None:
        """End; a look that waits for a server is left behind."""
        self._ended = True
        self._wake.set()
        self._thread.join(_STOP)

    def choose(self, run_id: str | None) -> None:
        """Look at this run closely, from now on."""
        if run_id != self._chosen:
            self._chosen = run_id
            self._wake.set()

    def again(self) -> None:
        """Look at once."""
        self._wake.set()

    def _work(self) -> None:
        while not self._ended:
            self._wake.clear()
            self._asked_at = time.monotonic()
            try:
                self._look = self._looked()
            except Exception:
                if self._ended:  # the depot was closed meanwhile
                    return
                raise
            self._asked_at = None
            self._seen()
            self._wake.wait(EVERY)

    def _looked(self) -> Snapshot:
        before = self._look
        try:
            return Snapshot(self._all() if self._many else (), *self._fetch_details())
        except DesistError as error:
            since = before.lost_at if before.lost_at is not None else self._asked_at
            return replace(before, lost=str(error), lost_at=since)

    def _all(self) -> tuple[RunInfo, ...]:
        """Return what lives, and the newest of the rest."""
        newest = self._client.runs(RunFilter(limit=NEWEST))
        known = {run.run_id for run in newest}
        older = self._client.runs(RunFilter(statuses=LIVE)) if len(newest) == NEWEST else []
        runs = [*newest, *(run for run in older if run.run_id not in known)]
        runs.sort(key=lambda run: (not run.is_live, -run.created_at))
        return tuple(
            replace(run, steps=self._client.steps(run)) if place < CLOSELY and run.is_live else run
            for place, run in enumerate(runs)
        )

    def _fetch_details(self) -> tuple[RunInfo | None, LiveInfo, str | None]:
        if self._chosen is None:
            return None, LiveInfo(), None
        try:
            run = self._client.run(self._chosen)
            run = replace(run, steps=self._client.steps(run)) if run.is_live else run
            life = self._client.life(self._chosen) if run.is_live or run.cancel is not None else LiveInfo()
            return run, life, None
        except NothingFound as error:
            return None, LiveInfo(), str(error)


class Listener:
    """Follows one run in a thread until its end, or until it is stopped, and tells its events to `story`.

    Parameters:
        heard: called after each event, in its thread.
    """

    def __init__(self, client: RunClient, run_id: str, heard: Callable[[], object]) -> None:
        self._client, self._run_id, self._heard = client, run_id, heard
        self._unwanted = False
        self.story = RunTree()
        threading.Thread(target=self._work, name="desist-listener", daemon=True).start()

    def stop(self) -> None:
        """It isn't wanted any more: it ends with the next event, or with the process."""
        self._unwanted = True

    def _work(self) -> None:
        try:
            with contextlib.closing(self._client.events(self._run_id, after=None, follow=True)) as events:
                for event in events:
                    if self._unwanted:
                        return
                    self.story.take(event)
                    self._heard()
        except Exception as error:
            if not self._unwanted and not isinstance(error, DesistError):  # else the lookout says what is wrong
                raise
