"""`LiveRun`: a live run of this process, as stores, the cancelling functions and readers see it."""

from __future__ import annotations

from typing import Any, Protocol, cast

from desist.cancel.registry import RunHandle, registry
from desist.cancel.status import RunStatus
from desist.run.storage.shared_store import RunCoordinator
from desist.run.storage.store import RunStore
from desist.run.storage.values import CancelRequest, StoredRun
from desist.streams.channel import EventChannel

__all__ = ["LiveRun", "live_run"]


class LiveRun(RunHandle, Protocol):
    """A live run."""

    store: RunStore
    channel: EventChannel[Any]
    ids: dict[str, str]  #: "run_id" and "root_run_id", for log records
    shared: RunCoordinator | None  #: the record that other processes see; None if only this process knows the run

    @property
    def root(self) -> LiveRun:
        """The root of its tree."""

    @property
    def owned_elsewhere(self) -> bool:
        """Whether another process has the run now."""

    def to_stored(self, status: RunStatus) -> StoredRun:
        """Return the run as a store takes it."""

    def snapshot(self) -> StoredRun:
        """Return the run as it is at this moment, with its partial content."""

    def apply_cancel_request(self, request: CancelRequest) -> None:
        """Cancel the run for another process."""


def live_run(run_id: str) -> LiveRun | None:
    """Return the live run with this id, or None."""
    return cast(LiveRun | None, registry.get(run_id))  # only `Run.open` adds runs to the registry
