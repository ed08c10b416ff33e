"""`DatabaseClient`: the runs of all processes in a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from desist.cli.client.base import CancelOptions, RunFilter
from desist.cli.client.models import LiveInfo, ReceiptInfo, RunInfo
from desist.cli.client.run_tree import RunTree
from desist.cli.exit_codes import NotFound
from desist.db.base import BaseDb
from desist.db.events.pages import Page, read_page, stream_header
from desist.db.sql_base import SqlDb
from desist.run.events.base import RunStatus
from desist.run.records.json_values import to_json_value
from desist.run.storage.values import RunQuery

__all__ = ["DatabaseClient"]


class DatabaseClient:
    """A client of a database."""

    def __init__(self, db: BaseDb, name: str) -> None:
        self.db, self.name = db, name
        self._lock = threading.Lock()
        self._trees: dict[str, RunTree] = {}

    def runs(self, run_filter: RunFilter) -> list[RunInfo]:
        """Return the matching runs. A store filters by one status at a time, so each status is one query."""
        found = {}
        for status in run_filter.statuses or (None,):
            query = RunQuery(
                owners=_owners(run_filter),
                session_id=run_filter.session_id,
                user_id=run_filter.user_id,
                status=None if status is None else RunStatus(status),
                created_before=None if run_filter.older_than is None else time.time() - run_filter.older_than,
                limit=run_filter.limit,
            )
            found.update({run.run_id: run for run in self.db.store.list_runs(query)})
        newest = sorted(found.values(), key=lambda run: (run.created_at, run.run_id), reverse=True)
        return [RunInfo.of_stored(run) for run in newest[: run_filter.limit]]

    def run(self, run_id: str) -> RunInfo:
        found = self.db.store.load_run(run_id)
        if found is None:
            raise NotFound(f"there is no run {run_id!r} in {self.name}")
        return RunInfo.of_stored(found, whole=True)

    def steps(self, run: RunInfo) -> list[str]:
        """Return the open steps, derived from the stored events."""
        return self._run_tree(run.run_id).open_steps()

    def live_info(self, run_id: str) -> LiveInfo:
        """Return the live state derived from the stored events; for a queued run, what it waits for.

        The calls in which another process is blocked are not visible in the database.
        """
        queued = self.db.queued_runs() if isinstance(self.db, SqlDb) else []
        waits = [run.waits_for for run in queued if run.run_id == run_id]
        return LiveInfo(blocked_in=waits, tokens=self._run_tree(run_id).tokens)

    def _run_tree(self, run_id: str) -> RunTree:
        """Return the tree of the events so far. Only new events are read."""
        with self._lock:
            tree = self._trees.setdefault(run_id, RunTree())
            for event in self._stored_events(run_id, tree.last.get("event_index")):
                tree.take({**to_json_value(event), "event_index": event.event_index})
        return tree

    def cancel(self, run_id: str, options: CancelOptions) -> ReceiptInfo:
        """Cancel a run of any process. The request is durable when this returns."""
        receipt = self.db.cancel(
            run_id,
            reason=options.reason,
            by=options.by,
            grace=options.grace,
            force=options.force,
            scope=options.scope,
            compensate=options.compensate,
        )
        return ReceiptInfo.of_request(receipt)

    def wait_settled(self, receipt: ReceiptInfo, seconds: float | None) -> ReceiptInfo:
        if receipt.receipt is None or not receipt:
            return receipt
        receipt.receipt.wait(seconds)
        return ReceiptInfo.of_request(receipt.receipt)

    def events(self, run_id: str, *, after: int | None, follow: bool) -> Generator[dict[str, Any], None, None]:
        if self.db.store.load_run(run_id) is None:
            raise NotFound(f"there is no run {run_id!r} in {self.name}")
        for event in self._followed(run_id, after) if follow else self._stored_events(run_id, after):
            yield {**to_json_value(event), "event_index": event.event_index}

    def _followed(self, run_id: str, after: int | None) -> Iterator[Any]:
        with self.db.follow(run_id, last_event_index=after) as reader:
            yield from reader

    def _stored_events(self, run_id: str, after: int | None) -> Iterator[Any]:
        store: Any = self.db.store  # a store opened by `open_database` is shared by processes and has pages
        last, more = -1 if after is None else after, True
        while more:
            with store.backend.reading() as tables:
                row = stream_header(tables, run_id)
                page = read_page(tables, row, last) if row is not None else Page()
            yield from page.events
            last, more = page.last, page.more

    def close(self) -> None:
        self.db.close()


def _owners(run_filter: RunFilter) -> frozenset[tuple[str, str]] | None:
    """Return the owners that a filter matches. A name also matches the id derived from it."""
    names = [("workflow", run_filter.workflow), ("agent", run_filter.agent)]
    owners = [(kind, name) for kind, name in names if name is not None]
    if not owners:
        return None
    return frozenset(pair for kind, name in owners for pair in ((kind, name), (kind, name.lower().replace(" ", "-"))))
