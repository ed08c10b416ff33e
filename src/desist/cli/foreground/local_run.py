"""`LocalRun`: a foreground run in this process."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

from desist.cancel.reason import CancelReason, Source
from desist.cancel.registry import registry
from desist.cli.foreground.base import SentEvent
from desist.console.format import count
from desist.run.observability.live import runs
from desist.run.records.json_values import to_json_value
from desist.streams.reader import SyncReader

__all__ = ["LocalRun"]


class LocalRun:
    """A run of a workflow or agent that this process has loaded.

    Parameters:
        component: the workflow or agent.
        reader: the reader of the run's events.
    """

    def __init__(self, component: Any, reader: SyncReader[Any]) -> None:
        self._component, self._reader = component, reader
        self.run_id = reader.run_id
        self.began_at = time.monotonic()

    def events(self) -> Generator[SentEvent, None, None]:
        """Return the events. Closing the generator cancels the run and waits until its end is stored."""
        with self._reader:
            for event in self._reader:
                yield SentEvent(event)

    def cancel(self, source: Source, text: str, *, force: bool) -> str | None:
        registry.cancel(self.run_id, CancelReason(source=source, text=text, by="desist"), force=force)
        return None

    def progress(self) -> str:
        tree = [run for run in runs() if run.root_run_id == self.run_id]
        root = next((run for run in tree if run.run_id == self.run_id), None)
        parts = []
        if root is not None and root.cancel is not None and root.cancel.upstream_closed:
            parts.append(f"{count(root.cancel.upstream_closed, 'connection')} closed")
        waits = tree[-1].blocked_in[:1] if tree else ()
        return ", ".join([*parts, *(f"waits for {call}" for call in waits)])

    def output(self) -> dict[str, Any]:
        stored = self._component.store.load_run(self.run_id)
        return {} if stored is None else dict(to_json_value(stored.output))

    def close(self) -> None:
        """Do nothing: the database flushes pending writes at the end of the program."""
