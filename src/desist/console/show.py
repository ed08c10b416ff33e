"""Reading a run into a view, to its end: also when Ctrl-C or a cancelled task ends the reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from desist.console.run_view import RunView
from desist.streams.reader import AsyncReader, SyncReader

__all__ = ["show", "show_async"]


def show(reader: SyncReader[Any], view: RunView, also: Callable[[Any], None] | None = None) -> None:
    """Show a run. Ctrl-C cancels it (the reader does), shows how it ended, and is raised again.

    Parameters:
        reader: the run's events, with `stream_events`.
        view: where to show them.
        also: called with every event, before it is shown.
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
            for event in reader:  # the run has settled: only its closing events are left
                take(event)
            raise


async def show_async(reader: AsyncReader[Any], view: RunView) -> None:
    """Show a run that is read on this loop. A cancelled task cancels it, shows how it ended, and is cancelled."""
    with view:
        try:
            async with reader:
                async for event in reader:
                    view.take(event)
        except asyncio.CancelledError:
            async for event in reader:
                view.take(event)
            raise
