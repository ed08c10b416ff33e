"""A run of this process."""

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
    """A run of a workflow or agent that was loaded here.

    Parameters:
        component: the workflow or agent.
        reader: its events.
    """

    def __init__(self, component: Any, reader: SyncReader[Any]) -> None:
        self._component, self._reader = component, reader
        self.run_id = reader.run_id
        self.began_at = time.monotonic()

    def events(self) -> Generator[SentEvent, None, None]:
        """Return its events. Leaving them cancels the run, and waits until that is settled and stored."""
        with self._reader:
            for event in self._reader:
                yield SentEvent(event)

    def stop(self, source: Source, text: str, *, force: bool) -> str | None:
        """Cancel it."""
        registry.cancel(self.run_id, CancelReason(source=source, text=text, by="desist"), force=force)
        return None

    def doing(self) -> str:
        """Say what was closed, and what it waits for."""
        tree = [run for run in runs() if run.root_run_id == self.run_id]
        root = next((run for run in tree if run.run_id == self.run_id), None)
        said = []
        if root is not None and root.cancel is not None and root.cancel.upstream_closed:
            said.append(f"{count(root.cancel.upstream_closed, 'connection')} closed")
        waits = tree[-1].blocked_in[:1] if tree else ()
        return ", ".join([*said, *(f"waits for {what}" for what in waits)])

    def output(self) -> dict[str, Any]:
        """Return its output."""
        stored = self._component.store.load_run(self.run_id)
        return {} if stored is None else dict(to_json_value(stored.output))

    def close(self) -> None:
        """Nothing to do: a database writes what is left when the program ends."""
