"""A process that follows runs of others: `python -m bench.chaos.follower NAME DB-URL NOTES SHARE OF`.

It follows every run of its share to its end, through the database, and writes down each event that it hears. It is
killed now and then; the one that takes its place goes on after the last event that was written down.
"""

from __future__ import annotations

import logging
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

from bench.chaos.note_reader import Tail
from bench.chaos.notes import Notes, NotesHandler
from bench.chaos.run_store import open_db
from desist.exceptions import ConfigurationError, StoreError

__all__ = ["told_of"]

#: Seconds between two looks for new runs, and before a run that isn't there yet is asked for again.
EVERY = 0.1


class Followers:
    """Follows each run in a thread of its own."""

    def __init__(self, url: str, path: Path, notes: Notes, share: int, of: int) -> None:
        self._db, self._tail, self._notes = open_db(url), Tail(path), notes
        self._share, self._of = share, of
        self.over = threading.Event()
        self._known: set[str] = set()

    def look(self) -> None:
        """Begin to follow the runs that are new. What was heard before this process began counts."""
        heard: dict[str, int] = {}
        ended: set[str] = set()
        new: list[str] = []
        for note in self._tail.read("ordered", "heard"):
            run = note["run"]
            if note["what"] == "heard" and note["who"] == self._notes.who:
                heard[run] = note["index"]
                if note["ends"]:
                    ended.add(run)
            elif note["what"] == "ordered" and self._is_mine(run) and run not in self._known:
                self._known.add(run)
                new.append(run)
        for run in new:
            if run not in ended:
                threading.Thread(target=self._follow, args=(run, heard.get(run)), daemon=True).start()

    def close(self) -> None:
        """Let go of everything."""
        self._tail.close()
        self._db.close()

    def _is_mine(self, run: str) -> bool:
        return zlib.crc32(run.encode()) % self._of == self._share

    def _follow(self, run: str, index: int | None) -> None:
        while not self.over.is_set():
            try:
                reader = self._db.follow(run, index)
                for event in reader:
                    index = event.event_index
                    self._notes("heard", run=run, **told_of(run, event))
                    if event.is_terminal and event.run_id == run:
                        return
                cursor: Any = reader._run.cursor  # type: ignore[attr-defined]  # of a follower
                self._notes("early", run=run, after=index, last=cursor._last, over=cursor._over, ended=cursor._ended)
            except (ConfigurationError, StoreError) as error:
                if isinstance(error, StoreError):
                    self._notes("trouble", doing="follow", error=repr(error))
            self.over.wait(EVERY)


def told_of(run: str, event: Any) -> dict[str, Any]:
    """Return what is noted of an event: enough to see whether two are the same."""
    text = event.content if event.is_content else None
    ends = bool(event.is_terminal and event.run_id == run)
    return {"index": event.event_index, "event": event.event, "ends": ends, "text": text, "of": event.run_id}


def main() -> None:
    """Follow until the input ends."""
    name, url, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    notes = Notes(path, name)
    logging.getLogger("desist").addHandler(NotesHandler(notes))
    followers = Followers(url, path, notes, int(sys.argv[4]), int(sys.argv[5]))
    notes("ready")
    threading.Thread(target=lambda: (sys.stdin.read(), followers.over.set()), daemon=True).start()
    while not followers.over.wait(EVERY):
        followers.look()
    followers.close()
    notes("closed")


if __name__ == "__main__":
    main()
