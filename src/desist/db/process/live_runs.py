"""`LiveRuns`: the live runs of one store in this process, for the parts of the store, which don't know the store."""

from __future__ import annotations

import weakref
from typing import Any

from desist.cancel.registry import registry
from desist.run.storage.values import StoredRun

__all__ = ["LiveRuns"]


class LiveRuns:
    """A view of the registry for one store.

    Parameters:
        store: only compared with the stores of runs, and referred to weakly: a live run keeps its store alive.
    """

    def __init__(self, store: object) -> None:
        self._store = weakref.ref(store)

    def get(self, run_id: str) -> Any | None:
        """Return a live run of this store, or None."""
        run: Any = registry.get(run_id)
        return run if run is not None and run.store is self._store() else None

    def snapshots(self) -> list[StoredRun]:
        """Return all live runs of this store, as they are now."""
        store = self._store()
        runs: list[Any] = [run for run in registry.live() if getattr(run, "store", None) is store]
        return [run.snapshot() for run in runs]
