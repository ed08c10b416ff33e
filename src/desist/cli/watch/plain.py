"""Watching without a terminal: a line for every change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from desist.cli.client import RunClient, RunFilter, RunInfo
from desist.cli.exit_codes import Unreachable
from desist.cli.watch.poller import EVERY, NEWEST

__all__ = ["watch_lines"]


def watch_lines(
    client: RunClient, run_id: str | None, on_change: Callable[[RunInfo], object], lost: Callable[[str], object]
) -> str:
    """Tell each change of a status, of all runs for ever, or of one run until it has ended; return its last status.

    Parameters:
        tell: is given each run when it was first seen, and whenever its status or its steps are others.
        lost: is given words when the depot is lost.
    """
    known: dict[str, tuple[str, tuple[str, ...]]] = {}
    gone = False
    while True:
        try:
            found, gone = list(_poll(client, run_id)), False
        except Unreachable as error:
            if not gone:
                lost(f"{error}; trying again")
            found, gone = [], True
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
