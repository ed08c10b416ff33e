"""`EventListener`: follow the events of one run in a thread, so that drawing never waits for them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from desist.cli.client import RunClient
from desist.cli.client.run_tree import RunTree
from desist.exceptions import DesistError

__all__ = ["EventListener"]


class EventListener:
    """Follows a run until its end, or until `stop()`, and applies its events to `tree`.

    Parameters:
        on_event: called after each event, in the thread of the listener.
    """

    def __init__(self, client: RunClient, run_id: str, on_event: Callable[[], object]) -> None:
        self._client, self._run_id, self._on_event = client, run_id, on_event
        self._stopped = False
        self.tree = RunTree()
        threading.Thread(target=self._work, name="desist-listener", daemon=True).start()

    def stop(self) -> None:
        """Stop following: the thread ends with the next event, or with the process."""
        self._stopped = True

    def _work(self) -> None:
        try:
            with contextlib.closing(self._client.events(self._run_id, after=None, follow=True)) as events:
                for event in events:
                    if self._stopped:
                        return
                    self.tree.take(event)
                    self._on_event()
        except Exception as error:
            if not self._stopped and not isinstance(error, DesistError):  # the poller reports a DesistError
                raise
