"""`FollowerRegistration`: asks the processes that own runs to notify this one of their events.

The processes find the addresses in a table, in the transaction that stores events. So none is notified in vain, and a
notification comes after that which is to be read. An entry has a time and is renewed; that of a process that has died
is removed by the process that notifies, with the end of the run, or by its time.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from desist.db.process.notifier import channel

if TYPE_CHECKING:
    from desist.db.backends.base import SharedBackend
    from desist.db.tables.sql import SqlTables
    from desist.db.writer import Writer

__all__ = ["FollowerRegistration"]

#: Seconds that an entry is valid, and after which it is renewed, or tried again.
KEPT, RENEWED = 60.0, 20.0


class FollowerRegistration:
    """The entries of this process. `covers` is called in the notifier's thread; the lock guards `_valid`."""

    def __init__(self, backend: SharedBackend, writer: Writer) -> None:
        self._backend, self._writer = backend, writer
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: in a forked child the entries are its parent's."""
        self._lock = threading.Lock()
        self._valid: dict[str, str] = {}  #: the address with which a stream is registered
        self._asked: dict[str, float] = {}  #: when a stream was registered, or tried to be

    def covers(self, streams: dict[str, str | None]) -> bool:
        """Return whether this process is notified of the events of all these streams; ask for what is missing.

        Parameters:
            streams: the process that owns the run of each stream.
        """
        now, address = time.monotonic(), self._backend.address
        gone = [run_id for run_id in self._asked if run_id not in streams]
        if gone and address:
            self._writer.put_droppable(lambda tables: tables.followers.delete(gone, address))
        with self._lock:
            for run_id in gone:
                del self._asked[run_id]
                self._valid.pop(run_id, None)
            covered = all(self._valid.get(run_id) == address for run_id in streams)
        if not self._backend.pushes or not address:
            return False
        due = [run_id for run_id in streams if now >= self._asked.get(run_id, now - RENEWED) + RENEWED]
        if due:
            self._asked.update(dict.fromkeys(due, now))
            self._register(due, address, {process for run_id in due if (process := streams[run_id])})
        return covered

    def _register(self, run_ids: list[str], address: str, processes: set[str]) -> None:
        def work(tables: SqlTables) -> list[str]:
            tables.followers.put(run_ids, address, KEPT)
            owners = [tables.owners.get(process) for process in sorted(processes)]
            addresses = [owner[0] for owner in owners if owner is not None]
            for address_of_owner in addresses:
                tables.tx.notify(address_of_owner)  # from now on the owner stores events at once
            return addresses

        def ended(done: Future[list[str]]) -> None:
            if done.exception() is not None:  # perhaps the database can't be written: this process polls
                return
            with self._lock:
                new = [run_id for run_id in run_ids if run_id in self._asked and self._valid.get(run_id) != address]
                self._valid.update(dict.fromkeys(new, address))
            if new:
                for owner in done.result():
                    self._backend.wake(owner)
                channel.notify_self()  # what was stored before this is read now

        self._writer.put(work).add_done_callback(ended)
