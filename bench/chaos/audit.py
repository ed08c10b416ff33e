"""The questions at the end: about each run once more, from a process that had nothing to do with any. With a limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.chaos.follower import told_of
from bench.chaos.notes import Notes
from bench.chaos.run_store import open_db
from bench.chaos.sites import Site
from desist.exceptions import StoreError
from desist.run.cancel import cancel

__all__ = ["Audit"]

#: Seconds in which what is stored of a run that has ended can be read; and that, once one couldn't be, others get.
READING, HURRIED = 10.0, 1.0


class Audit:
    """Asks, and notes the answers.

    Parameters:
        folder: where the processes left what they printed.
    """

    def __init__(self, site: Site, folder: Path, notes: Notes) -> None:
        self._site, self._folder, self._notes = site, folder, notes
        self._reading = READING

    def ask(self, run_ids: Sequence[str]) -> None:
        """Ask about these runs, and what is wrong with the database."""
        db = open_db(self._site.url)
        try:
            for run_id in run_ids:
                try:
                    self._ask_again(db, run_id)
                except StoreError as error:
                    self._notes("unread", run=run_id, error=repr(error))
        finally:
            db.close()
        for words in self._site.wrong():
            self._notes("wrong", text=words)
        self._printed()

    def _ask_again(self, db: Any, run_id: str) -> None:
        output = db.get_run(run_id)
        if output is None:
            return
        self._read_events(db, run_id)
        reason = output.cancel.reason if output.cancel is not None else None
        self._notes("stored", run=run_id, status=output.status.value, reason=reason)
        receipt = cancel(run_id, reason="too late", db=db)
        told = receipt.wait(self._reading)
        self._notes(
            "again",
            run=run_id,
            outcome=receipt.outcome.value,
            truth=bool(receipt),
            status=receipt.status.value if receipt.status else None,
            reason=receipt.reason,
            told=told,
        )

    def _read_events(self, db: Any, run_id: str) -> None:
        """Note what is stored of a run; and if reading doesn't end, that."""
        failed: list[str] = []

        def read() -> None:
            try:
                for event in db.follow(run_id):
                    self._notes("recorded", run=run_id, **told_of(run_id, event))
            except Exception as error:
                failed.append(repr(error))

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        reading.join(self._reading)
        if reading.is_alive():
            self._reading = HURRIED
            failed.append("following it doesn't come to an end")
        for error in failed:
            self._notes("unread", run=run_id, error=error)

    def _printed(self) -> None:
        """Whatever a process has printed is among the notes, too: they say nothing there unless they break."""
        for file in sorted(self._folder.glob("*.out")):
            text = file.read_text(errors="replace")
            if text:
                self._notes("printed", name=file.stem, text=text[-4000:])
