"""What is used of DBOS beyond its documented names, checked at the start: another version of it may be otherwise.

A queue of DBOS's that is documented has one limit for all workers, in the database. Here each worker has room of its
own, which several queues share. And what a dead worker had taken is queued again by its name. Called by
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

__all__ = ["DbosInternals", "inside_of", "is_there"]

#: Seconds between two looks into a queue: into one where something happens, and into another.
BUSY, IDLE = 0.05, 0.2
#: Seconds for which a queue counts as busy after something has happened.
STAYS = 1.0


class CapacityQueue(Queue):
    """A queue that asks how much room there is whenever it is looked into.

    Parameters:
        limit: how many of it may go on at once, on all workers; None: no limit.
        room: how many of it this worker may have, those included that it has; now.
    """

    def __init__(self, name: str, limit: int | None, capacity: Callable[[], int]) -> None:
        self._room = capacity
        self._busy_until = 0.0
        token = _queue._INTERNAL_QUEUE_CONSTRUCTION
        super().__init__(name, limit, polling_interval_sec=IDLE, token=token)

    @property
    def _worker_concurrency(self) -> int:
        return self._room()

    @_worker_concurrency.setter
    def _worker_concurrency(self, value: object) -> None:
        """DBOS sets it in the beginning."""

    @property
    def _polling_interval_sec(self) -> float:
        return BUSY if time.monotonic() < self._busy_until else IDLE

    @_polling_interval_sec.setter
    def _polling_interval_sec(self, value: float) -> None:
        """DBOS sets it in the beginning."""

    def poll_soon(self) -> None:
        """Something happens in it."""
        self._busy_until = time.monotonic() + STAYS


class DbosInternals:
    """The inside of DBOS, once it is made and before it is launched."""

    def __init__(self, dbos: Any) -> None:
        self._active: Callable[[str], int] = dbos._active_workflows_set.count_for_queue
        self._lines: dict[str, Queue] = dbos._registry.internal_queue_map
        self._recover: Callable[[list[str]], object] = dbos._recover_pending_workflows
        self._stops: list[threading.Event] = dbos.background_thread_stop_events

    def add_lines(self, limits: Mapping[str, int | None], concurrency: int) -> None:
        """Take runs from these queues, as many at a time as they share. Before the launch.

        Each takes its part of what is free and at least one: so there may be one more for each queue than there is
        room for, and whoever does the work lets those wait.
        """

        def capacity(name: str) -> int:
            free = concurrency - sum(map(self._active, limits))
            return self._active(name) + (max(1, free // len(limits)) if free > 0 else 0)

        for name, limit in limits.items():
            self._lines[name] = CapacityQueue(name, limit, functools.partial(capacity, name))

    def poll_soon(self, name: str) -> None:
        """Something happens in a queue: look into it more often for a while."""
        line = self._lines.get(name)
        if isinstance(line, CapacityQueue):
            line.poll_soon()

    def drop_lines(self) -> None:
        """Forget the queues: what DBOS knows of them outlives it."""
        for name in [name for name, line in self._lines.items() if isinstance(line, CapacityQueue)]:
            del self._lines[name]

    def recover(self, executor: str) -> None:
        """Queue again what this executor had taken."""
        self._recover([executor])

    def stop_taking(self) -> None:
        """Look into no queue any more."""
        for stop in self._stops:
            stop.set()


def inside_of(dbos: Any) -> DbosInternals:
    """Return the inside.

    Raises:
        ConfigurationError: this version of DBOS is another one inside.
    """
    try:
        return DbosInternals(dbos)
    except AttributeError as error:
        version = importlib.metadata.version("dbos")
        raise ConfigurationError(f"dbos {version} isn't known to this desist ({error}): install dbos 3.4") from error


def is_there() -> bool:
    """Whether this process has a DBOS."""
    return _dbos._dbos_global_instance is not None
