"""Does something to many runs, each in a job of its own: a failure is logged with the run, and harms no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from desist.db.writer import Writer
from desist.exceptions import StoreError

__all__ = ["begin_one_by_one", "one_by_one", "log_failure"]

log = logging.getLogger("desist.db")
T = TypeVar("T")

#: The maximum of runs in `_failing`, which has the error that was logged last for each run.
KNOWN = 1000
_failing: dict[str, str] = {}


def begin_one_by_one(
    writer: Writer, run_ids: Iterable[str], work: Callable[[Any, str], T], what: str
) -> list[tuple[str, Future[T]]]:
    """Begin `work(tables, run_id)` for each run; return the futures. A failure is logged.

    Parameters:
        what: the participle for the log: "run r could not be ...".
    """
    begun = []
    for run_id in run_ids:
        done = writer.put(partial(_with_id, work, run_id))
        done.add_done_callback(partial(log_failure, writer, run_id, what))
        begun.append((run_id, done))
    return begun


def _with_id(work: Callable[[Any, str], T], run_id: str, tables: Any) -> T:
    return work(tables, run_id)


def log_failure(writer: Writer, run_id: str, what: str, done: Future[Any]) -> None:
    """Log that something could not be done to a run. A failure is an error once, as long as its reason stays."""
    error = done.exception()
    if error is None:
        _failing.pop(run_id, None)
        return
    if writer.closing:  # the next process that opens the database will do it
        return
    known = _failing.pop(run_id, None) == str(error)
    _failing[run_id] = str(error)
    while len(_failing) > KNOWN:
        _failing.pop(next(iter(_failing), ""), None)
    level = logging.DEBUG if known else logging.ERROR
    log.log(level, "run %s could not be %s: %s", run_id, what, error, extra={"run_id": run_id})


def one_by_one(
    writer: Writer, run_ids: Iterable[str], work: Callable[[Any, str], T], what: str
) -> list[tuple[str, T | None]]:
    """Do the same and wait; return the runs with the results, None for a run that failed.

    Raises:
        StoreError: all runs failed.
    """
    found: list[tuple[str, T | None]] = []
    errors: list[StoreError] = []
    for run_id, done in begin_one_by_one(writer, run_ids, work, what):
        try:
            found.append((run_id, done.result()))  # ends in time: the writer bounds it
        except StoreError as error:
            errors.append(error)
            found.append((run_id, None))
    if errors and len(errors) == len(found):  # for example, the database is away
        raise errors[0]
    return found
