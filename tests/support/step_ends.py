"""`Ends`: hears, at that very moment, that a step has ended. Used by tests that cancel between two steps."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from cancel_trial import PATIENCE

Key = tuple[str, int]  #: a step, and the how-manyth time
log = logging.getLogger("desist.workflow")


class Ends(logging.Handler):
    """Listens to the log of the workflows inside its `with` block: it is written in the moment itself."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.ended: list[Key] = []  #: steps that have ended well
        self.at_end: dict[Key, Callable[[], Any]] = {}  #: what to do the moment that a step has ended
        self._ends: Counter[str] = Counter()
        self._changed = threading.Condition()

    def __enter__(self) -> Any:
        self._level = log.level
        log.setLevel(logging.DEBUG)
        log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self)
        log.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        """Note the end of a step: it is after it, and before what comes next."""
        if "has ended:" not in record.msg:
            return
        _, name, event = record.args  # type: ignore[misc]
        if str(event).endswith("Completed"):
            with self._changed:
                self._ends[str(name)] += 1
                key = (str(name), self._ends[str(name)])
                self.ended.append(key)
                self._changed.notify_all()
            if key in self.at_end:
                self.at_end.pop(key)()

    def wait_ended(self, name: str, times: int = 1) -> None:
        """Wait until a step has ended for the how-manyth time."""
        key = (name, times)
        with self._changed:
            assert self._changed.wait_for(lambda: key in self.ended, PATIENCE), (key, self.ended)
