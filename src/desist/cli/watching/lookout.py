"""Asks a depot what there is, beside the drawing: a thread that looks, keeps what it saw, and is never in the way.

A depot that is lost keeps its last look, and says since when it is lost; it is asked again until it is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from desist.cli.depot import LIVE, Depot, Life, RunInfo, Wanted
from desist.cli.exits import NothingFound
from desist.exceptions import DesistError

__all__ = ["Look", "Lookout"]

EVERY = 0.5  #: seconds between two looks
NEWEST = 50  #: runs that are shown, beside those that live
CLOSELY = 30  #: live runs whose steps are looked for
SLOW = 3.0  #: seconds without an answer after which the depot counts as lost
_STOP = 1.0  #: seconds to wait for a look when it ends


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    runs: tuple[RunInfo, ...] = ()
    chosen: RunInfo | None = None  #: the run that is looked at closely, with its output
    life: Life = field(default_factory=Life)  #: of that one
    gone: str | None = None  #: why that one can't be looked at
    lost: str | None = None  #: why nothing can be seen at the moment
    lost_at: float | None = None  #: since when, in seconds of `time.monotonic`


class Lookout:
    """Looks every half second, or when it is told to.

    Parameters:
        depot: where.
        many: whether to look at the list, too.
        seen: called after each look, in its thread.
    """

    def __init__(self, depot: Depot, *, many: bool, seen: Callable[[], object]) -> None:
        self._depot, self._many, self._seen = depot, many, seen
        self._wake = threading.Event()
        self._ended = False
        self._chosen: str | None = None
        self._asked_at: float | None = None  #: when the look that is being taken began; seconds of `time.monotonic`
        self._look = Look()
        self._thread = threading.Thread(target=self._work, name="desist-lookout", daemon=True)

    @property
    def look(self) -> Look:
        """What was seen last. A depot that doesn't answer for long counts as lost, too."""
        asked_at = self._asked_at
        if self._look.lost is None and asked_at is not None and time.monotonic() - asked_at > SLOW:
            return replace(self._look, lost=f"{self._depot.name} doesn't answer", lost_at=asked_at)
        return self._look

    def start(self) -> None:
        """Begin."""
        self._thread.start()

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

    def _looked(self) -> Look:
        before = self._look
        try:
            return Look(self._all() if self._many else (), *self._closely())
        except DesistError as error:
            since = before.lost_at if before.lost_at is not None else self._asked_at
            return replace(before, lost=str(error), lost_at=since)

    def _all(self) -> tuple[RunInfo, ...]:
        """Return what lives, and the newest of the rest."""
        newest = self._depot.runs(Wanted(limit=NEWEST))
        known = {run.run_id for run in newest}
        older = self._depot.runs(Wanted(statuses=LIVE)) if len(newest) == NEWEST else []
        runs = [*newest, *(run for run in older if run.run_id not in known)]
        runs.sort(key=lambda run: (not run.is_live, -run.created_at))
        return tuple(
            self._with_steps(run) if place < CLOSELY and run.is_live else run for place, run in enumerate(runs)
        )

    def _with_steps(self, run: RunInfo) -> RunInfo:
        return replace(run, steps=self._depot.steps(run))

    def _closely(self) -> tuple[RunInfo | None, Life, str | None]:
        if self._chosen is None:
            return None, Life(), None
        try:
            run = self._depot.run(self._chosen)
            life = self._depot.life(self._chosen) if run.is_live or run.cancel is not None else Life()
            return run, life, None
        except NothingFound as error:
            return None, Life(), str(error)
