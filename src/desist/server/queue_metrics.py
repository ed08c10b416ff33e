"""The submitted runs of a server's databases, counted by workflow, for `/metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from desist.run.storage.queue_store import queue_store
from desist.run.storage.store import RunStore

__all__ = ["QueueMetrics", "queue_metrics"]

#: The maximum of queued runs that are counted in one database.
MOST = 100_000


@dataclass(slots=True)
class QueueMetrics:
    """The queue of one workflow."""

    workflow_id: str
    queued: int = 0
    oldest: float = 0.0  #: seconds that the longest wait has lasted
    workers: int = 0  #: live workers that have the workflow


def queue_metrics(stores: Iterable[RunStore]) -> list[QueueMetrics]:
    """Return the queues of the databases in which runs can wait for workers. Blocks.

    Raises:
        StoreError: a database can't be read.
    """
    found: dict[str, QueueMetrics] = {}
    for store in filter(None, map(queue_store, stores)):
        for run in store.queued_runs(MOST):  # the longest wait first
            one = found.setdefault(run.workflow_id, QueueMetrics(run.workflow_id, workers=run.workers))
            one.queued += 1
            one.oldest = max(one.oldest, time.time() - run.since)
    return sorted(found.values(), key=lambda one: one.workflow_id)
