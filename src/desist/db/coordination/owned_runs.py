"""The runs of one store that this process works on, one record a run, and in which epoch it may write about each.

Read and changed from any thread: the store's writer (claims, ends), the notifier's thread (polls), callers. `lock`
guards every change; `epoch_of` reads one reference and takes no lock, because the writer asks for each row.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from desist.db.process.unregistered_runs import unregistered_runs

__all__ = ["GIVEN_BACK", "OwnedRun", "OwnedRuns"]

#: The epoch of a run that this process may not write about. No record has it, so every conditional write is refused.
GIVEN_BACK = -1


@dataclass(slots=True)
class OwnedRun:
    """What this process knows of one run of its own."""

    epoch: int | None = None  #: None: its claim isn't written yet
    durable: bool = False  #: the claim is committed: other processes see it
    taken: bool = False  #: dequeued or recovered, and not started yet; `durable` too: no claim needs to be written
    applied_request: tuple[float | None, bool] | None = None  #: grace and force of the cancel that was applied last
    submitter: str | None = None  #: the address of the process to notify of the end
    refused: str | None = None  #: why the claim was refused; then the epoch is `GIVEN_BACK`


class OwnedRuns:
    """The records, by run id."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._runs: dict[str, OwnedRun] = {}
        self.checked_at = 0.0  #: when ownership was last verified; seconds of `time.monotonic`

    def __bool__(self) -> bool:
        return any(owned.epoch is not None for owned in list(self._runs.values()))

    def get(self, run_id: str) -> OwnedRun | None:
        """Return the record of a run, or None."""
        return self._runs.get(run_id)

    def epoch_of(self, run_id: str) -> int | None:
        """Return the epoch in which this process may write about a run; None for one that it hasn't claimed."""
        owned = self._runs.get(run_id)
        return owned.epoch if owned is not None else None

    def add(self, run_id: str, epoch: int, *, taken: bool = False, submitter: str | None = None) -> None:
        """Record a claim. In the writer, within the transaction: a repeated transaction sets the same values."""
        with self.lock:
            owned = self._runs.setdefault(run_id, OwnedRun())
            owned.epoch, owned.taken, owned.refused = epoch, owned.taken or taken, None
            owned.submitter = submitter or owned.submitter
            if taken:
                unregistered_runs.add_starting(run_id)

    def confirm(self, run_id: str, epoch: int, written_at: float) -> None:
        """Mark a claim as durable. No-op if the run was given back, or claimed anew, since.

        Parameters:
            written_at: when the claim was written, in seconds of `time.monotonic`. This process may have been frozen
                since, and a poll in between did not include this run.
        """
        with self.lock:
            owned = self._runs.get(run_id)
            unregistered_runs.remove_starting(run_id)
            if owned is None:
                return
            owned.taken = False
            if owned.epoch == epoch:
                self._note_durable(owned, written_at)

    def mark_durable(self, run_id: str, epoch: int, written_at: float) -> None:
        """Mark the claim of a run as durable that is to be started here. Parameters as for `confirm`."""
        with self.lock:
            owned = self._runs.get(run_id)
            if owned is not None and owned.epoch == epoch:
                self._note_durable(owned, written_at)

    def mark_started(self, run_id: str) -> None:
        """Record that a run is live here whose claim was written when it was taken from the queue."""
        with self.lock:
            owned = self._runs.get(run_id)
            unregistered_runs.remove_starting(run_id)
            if owned is not None:
                owned.taken = False

    def _note_durable(self, owned: OwnedRun, written_at: float) -> None:
        others = any(run.durable for run in self._runs.values())
        self.checked_at = min(self.checked_at, written_at) if others else written_at
        owned.durable = True

    def hand_over(self, run_id: str, refused: str | None = None) -> None:
        """Refuse everything that this process still writes about a run. Idempotent.

        Parameters:
            refused: why the claim was refused, if it was; None: the run was given to another process.
        """
        with self.lock:
            owned = self._runs.get(run_id)
            taken = owned is not None and owned.taken
            self._runs[run_id] = OwnedRun(GIVEN_BACK, taken=taken, refused=refused)

    def remove(self, run_id: str) -> None:
        """Forget a run: its end is stored, or can't be. Idempotent."""
        with self.lock:
            unregistered_runs.remove_starting(run_id)
            self._runs.pop(run_id, None)

    def durable_epochs(self) -> dict[str, int]:
        """Return the epochs of the runs whose claims other processes see."""
        with self.lock:
            return {
                run_id: owned.epoch for run_id, owned in self._runs.items() if owned.durable and owned.epoch is not None
            }

    @property
    def any_durable(self) -> bool:
        """Whether there is a run whose claim other processes see."""
        return any(owned.durable for owned in list(self._runs.values()))

    def mark_applied(self, run_id: str, request: tuple[float | None, bool], *, begun: bool = False) -> bool:
        """Record that a cancel is being applied; return False if the same one was applied before.

        Parameters:
            begun: the run is live, and its claim may still be on its way to the writer: remember the cancel until then.
        """
        with self.lock:
            owned = self._runs.get(run_id)
            if owned is None and begun:
                owned = self._runs[run_id] = OwnedRun()
            if owned is None:  # its end was stored meanwhile
                return True
            known, owned.applied_request = owned.applied_request, request
            return known != request

    def mark_checked(self, checked: dict[str, int], at: float) -> None:
        """Record that ownership was verified. Not if a run was claimed meanwhile: it wasn't among those."""
        with self.lock:
            if all(run_id in checked for run_id, owned in self._runs.items() if owned.durable):
                self.checked_at = max(self.checked_at, at)
