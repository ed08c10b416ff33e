"""Undocumented names of DBOS, checked when a worker starts, because another version may not have them.

DBOS's documented queues have limits that are stored in the database for all workers. Here each worker has a capacity of
its own, which its queues share. Also, the runs of a dead worker are requeued by the worker's name. Called by
`dbos_dispatcher`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dbos import Queue, _dbos, _queue

from desist.exceptions import ConfigurationError

__all__ = ["DbosInternals", "open_internals", "is_dbos_used"]

#: Seconds between two polls of a busy queue, and of an idle one.
BUSY, IDLE = 0.05, 0.2
#: Seconds for which a queue counts as busy after an event.
BUSY_FOR = 1.0


class CapacityQueue(Queue):
    """A queue that computes its capacity at each poll.

    Parameters:
        limit: the maximum of concurrent runs on all workers; None: no limit.
        capacity: returns how many runs of the queue this worker may have now, with those that it has.
    """

    def __init__(self, name: str, limit: int | None, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._busy_until = 0.0
        token = _queue._INTERNAL_QUEUE_CONSTRUCTION
        super().__init__(name, limit, polling_interval_sec=IDLE, token=token)

    @property
    def _worker_concurrency(self) -> int:
        return self._capacity()

    @_worker_concurrency.setter
    def _worker_concurrency(self, value: object) -> None:
        """Ignore the value that DBOS sets in its constructor."""

    @property
    def _polling_interval_sec(self) -> float:
        return BUSY if time.monotonic() < self._busy_until else IDLE

    @_polling_interval_sec.setter
    def _polling_interval_sec(self, value: float) -> None:
        """Ignore the value that DBOS sets in its constructor."""

    def poll_soon(self) -> None:
        """Poll more often for a while."""
        self._busy_until = time.monotonic() + BUSY_FOR


class DbosInternals:
    """The internals of a DBOS instance. Create it before the launch of DBOS."""

    def __init__(self, dbos: Any) -> None:
        self._active: Callable[[str], int] = dbos._active_workflows_set.count_for_queue
        self._queues: dict[str, Queue] = dbos._registry.internal_queue_map
        self._recover: Callable[[list[str]], object] = dbos._recover_pending_workflows
        self._stops: list[threading.Event] = dbos.background_thread_stop_events

    def add_queues(self, limits: Mapping[str, int | None], concurrency: int) -> None:
        """Dequeue from these queues, which share the concurrency. Call before the launch.

        Each queue takes its share of the free capacity and at least one run. So there may be one run too many for each
        queue: `RunExecutor` lets those wait.
        """

        def capacity(name: str) -> int:
            free = concurrency - sum(map(self._active, limits))
            return self._active(name) + (max(1, free // len(limits)) if free > 0 else 0)

        for name, limit in limits.items():
            self._queues[name] = CapacityQueue(name, limit, functools.partial(capacity, name))

    def poll_soon(self, name: str) -> None:
        """Poll a queue more often for a while."""
        queue = self._queues.get(name)
        if isinstance(queue, CapacityQueue):
            queue.poll_soon()

    def drop_queues(self) -> None:
        """Remove the queues from DBOS's registry, which outlives the instance."""
        for name in [name for name, queue in self._queues.items() if isinstance(queue, CapacityQueue)]:
            del self._queues[name]

    def recover(self, executor: str) -> None:
        """Requeue the runs of an executor."""
        self._recover([executor])

    def stop_taking(self) -> None:
        """Stop polling all queues."""
        for stop in self._stops:
            stop.set()


def open_internals(dbos: Any) -> DbosInternals:
    """Return the internals of a DBOS instance.

    Raises:
        ConfigurationError: this version of DBOS has other internals.
    """
    try:
        return DbosInternals(dbos)
    except AttributeError as error:
        version = importlib.metadata.version("dbos")
        raise ConfigurationError(f"dbos {version} is not supported ({error}): install dbos 3.4") from error


def is_dbos_used() -> bool:
    """Return whether this process has a DBOS instance."""
    return _dbos._dbos_global_instance is not None
