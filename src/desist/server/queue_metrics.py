"""The submitted runs of a server's databases, by workflow, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable

from desist.run.storage.queue_store import QueueStatistics, queue_store
from desist.run.storage.store import RunStore

__all__ = ["queue_metrics"]


def queue_metrics(stores: Iterable[RunStore]) -> list[QueueStatistics]:
    """Return the queues of the databases in which runs can wait for workers. Blocks.

    Raises:
        StoreError: a database can't be read.
    """
    queues = [queue for queue in map(queue_store, stores) if queue is not None]
    return sorted((one for queue in queues for one in queue.queue_statistics()), key=lambda one: one.workflow_id)
