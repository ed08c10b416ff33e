"""Read a run into a view up to its terminal event, also if Ctrl-C or a cancelled task interrupts the reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from desist.console.run_view import RunView
from desist.streams.reader import AsyncReader, SyncReader

__all__ = ["show", "show_async"]


def show(reader: SyncReader[Any], view: RunView, also: Callable[[Any], None] | None = None) -> None:
    """Show a run. On Ctrl-C the reader cancels the run; the result is shown, and KeyboardInterrupt is raised again.

    Parameters:
        reader: the run's events, with `stream_events`.
        view: the view to render them.
        also: called with each event before the view renders it.
    """

    def take(event: Any) -> None:
        if also is not None:
            also(event)
        view.take(event)

    with view:
        try:
            with reader:
                for event in reader:
                    take(event)
        except KeyboardInterrupt:
            for event in reader:  # the run has settled: only its last events remain
                take(event)
            raise


async def show_async(reader: AsyncReader[Any], view: RunView) -> None:
    """Show a run that is read on this loop. If the task is cancelled, cancel the run, show the result and re-raise."""
    with view:
        try:
            async with reader:
                async for event in reader:
                    view.take(event)
        except asyncio.CancelledError:
            async for event in reader:
                view.take(event)
            raise
