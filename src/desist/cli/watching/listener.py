"""Follows one run in a thread, and tells its events to a story."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from desist.cli.depot import Depot
from desist.cli.depot.story import Story
from desist.exceptions import DesistError

__all__ = ["Listener"]


class Listener:
    """Follows a run until its end, or until nobody wants it any more.

    Parameters:
        depot: where the run is.
        run_id: which one.
        heard: called after each event, in its thread.
    """

    def __init__(self, depot: Depot, run_id: str, heard: Callable[[], object]) -> None:
        self._depot, self._heard = depot, heard
        self._unwanted = False
        self.run_id = run_id
        self.story = Story()
        self.trouble: str | None = None  #: why there is nothing more to hear
        self._thread = threading.Thread(target=self._work, name="desist-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """It isn't wanted any more: it ends with the next event, or with the process."""
        self._unwanted = True

    def _work(self) -> None:
        try:
            with contextlib.closing(self._depot.events(self.run_id, after=None, follow=True)) as events:
                for event in events:
                    if self._unwanted:
                        return
                    self.story.take(event)
                    self._heard()
        except Exception as error:
            if self._unwanted:  # the depot was closed meanwhile
                return
            if not isinstance(error, DesistError):
                raise
            self.trouble = str(error)
            self._heard()
