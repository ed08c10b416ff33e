"""A process that looks: `python -m bench.chaos.observer DB-URL NOTES`. It writes down what the database says of runs.

It finds in the notes which runs there are, and looks at each until it has ended: which steps have finished, and what
its status is. Only changes are written down. It opens the database as any program would, and is spared by all faults.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.chaos.note_reader import Tail
from bench.chaos.notes import Notes, NotesHandler
from bench.chaos.run_store import open_db
from desist.exceptions import StoreError

#: Seconds between two rounds.
EVERY = 0.05
#: Seconds for which a run is looked at after its end: does it come back?
AFTER = 4.0


class Observer:
    """Looks at all runs that haven't ended, round by round."""

    def __init__(self, url: str, path: Path, notes: Notes) -> None:
        self._db, self._tail, self._notes = open_db(url), Tail(path), notes
        self._looked_at: dict[str, tuple[Any, ...] | None] = {}
        self._until: dict[str, float] = {}

    def close(self) -> None:
        """Let go of everything."""
        self._db.close()
        self._tail.close()

    def look(self) -> None:
        """Look at each run once."""
        for note in self._tail.read("ordered"):
            self._looked_at.setdefault(note["run"], None)
        for run, known in list(self._looked_at.items()):
            looked_at = time.monotonic()
            try:
                output = self._db.get_run(run)
            except StoreError as error:
                self._notes("trouble", doing="look", error=repr(error))
                return
            now = (output.status.value, finished(output.step_results)) if output is not None else None
            if now is not None and now != known:
                self._looked_at[run] = now
                self._notes("seen", run=run, status=now[0], steps=now[1], looked_at=looked_at)
            self._leave(run, output)

    def _leave(self, run: str, output: Any) -> None:
        if output is not None and output.status.is_final:
            until = self._until.setdefault(run, time.monotonic() + AFTER)
            if time.monotonic() > until:
                del self._looked_at[run]


def finished(steps: Any) -> dict[str, int]:
    """Return how often each step has finished, in containers too."""
    found: Counter[str] = Counter()
    for step in steps or ():
        if step.finished:
            found[step.step_name] += 1
        found.update(finished(step.steps))
    return dict(found)


def main() -> None:
    """Look until the input ends."""
    url, path = sys.argv[1], Path(sys.argv[2])
    notes = Notes(path, "observer")
    logging.getLogger("desist").addHandler(NotesHandler(notes))
    observer, over = Observer(url, path, notes), threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    notes("ready")
    while not over.wait(EVERY):
        observer.look()
    observer.look()
    observer.close()
    notes("closed")


if __name__ == "__main__":
    main()
