"""`desist watch` without a terminal: one line per change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from desist.cli.client import RunClient, RunFilter, RunInfo
from desist.cli.exit_codes import Unreachable
from desist.cli.watch.poller import EVERY, NEWEST

__all__ = ["watch_lines"]


def watch_lines(
    client: RunClient, run_id: str | None, on_change: Callable[[RunInfo], object], on_lost: Callable[[str], object]
) -> str:
    """Report each change of a status: of all runs, without end, or of one run until it has ended.

    Returns the final status of the run.

    Parameters:
        on_change: called with each new run, and with each run whose status or steps have changed.
        on_lost: called with a message when the server doesn't respond.
    """
    known: dict[str, tuple[str, tuple[str, ...]]] = {}
    is_lost = False
    while True:
        try:
            found, is_lost = list(_poll(client, run_id)), False
        except Unreachable as error:
            if not is_lost:
                on_lost(f"{error}; trying again")
            found, is_lost = [], True
        for run in reversed(found):
            state = (run.status, tuple(run.steps))
            if known.get(run.run_id) != state:
                known[run.run_id] = state
                on_change(run)
            if run_id is not None and not run.is_live:
                return run.status
        time.sleep(EVERY)


def _poll(client: RunClient, run_id: str | None) -> Iterator[RunInfo]:
    if run_id is not None:
        yield client.run(run_id)
    else:
        yield from client.runs(RunFilter(limit=NEWEST))
