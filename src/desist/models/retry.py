"""Retries of model calls. They are our own, not the SDK's, so that a cancel ends them.

A call is not retried once a piece of its response was yielded. `error.retryable` decides whether a retry makes sense.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping

from desist.cancel.token import check_cancelled
from desist.exceptions import ModelError
from desist.models.response import ModelResponse
from desist.run.execution.run import current_run

__all__ = ["RETRYABLE_STATUS", "ModelCallError", "backoff", "fixed_waits", "is_retryable", "retry_after", "retrying"]

log = logging.getLogger("desist.models")

FIRST_WAIT = 0.5  #: seconds, doubled with each retry
LONGEST_WAIT = 8.0  #: seconds, of our own back-off
LONGEST_RETRY_AFTER = 60.0  #: seconds of `Retry-After`; a longer one is not waited for


#: HTTP statuses that are retried, besides every 5xx.
RETRYABLE_STATUS = frozenset({408, 409, 429})


def is_retryable(status: int) -> bool:
    """Return whether a retry may succeed after this HTTP status."""
    return status in RETRYABLE_STATUS or status >= 500


class ModelCallError(ModelError):
    """A failed call. `retry_after` is the time that the server asked to wait, in seconds, or None."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status_code=status_code, retryable=retryable)
        self.retry_after = retry_after


def backoff(retries: int, *, random: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield the wait of each retry in seconds: exponential, with a jitter of one half."""
    for n in range(retries):
        step = min(FIRST_WAIT * 2**n, LONGEST_WAIT)
        yield step * (1 + random()) / 2


def fixed_waits(retries: int, delay: float, *, exponential: bool = False) -> Iterator[float]:
    """Yield `delay` for each retry; with `exponential`, doubled each time."""
    for n in range(retries):
        yield delay * 2**n if exponential else delay


def retry_after(headers: Mapping[str, str], *, clock: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that `retry-after-ms` or `Retry-After` (seconds, or an HTTP date) asks to wait, or None.

    `headers` has lower-case names, or doesn't mind case; `clock` returns seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if seconds == seconds else None  # False for NaN
    import email.utils  # slow to import, and a date is rare

    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - clock())
    except (ValueError, TypeError, OverflowError):
        return None


async def retrying(
    attempt: Callable[[], AsyncGenerator[ModelResponse, None]],
    waits: Iterable[float],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[ModelResponse, None]:
    """Yield the pieces of `attempt()`. Until one was yielded, retry after each of `waits` (seconds).

    Raises:
        ModelError: of the last attempt, or of the first that can't be retried.
        RunCancelled: the run was cancelled before another attempt.
    """
    for wait in itertools.chain(waits, (None,)):
        yielded = False
        check_cancelled()
        try:
            async with contextlib.aclosing(attempt()) as pieces:
                async for piece in pieces:
                    yielded = True
                    yield piece
            return
        except ModelError as error:
            requested: float | None = getattr(error, "retry_after", None)
            if wait is None or yielded or not error.retryable or (requested or 0.0) > LONGEST_RETRY_AFTER:
                raise
            pause = wait if requested is None else requested
            run = current_run()
            ids = run.ids if run is not None else None
            log.info("run %s: retrying in %.2f s: %s", run and run.run_id, pause, error, extra=ids)
        await sleep(pause)
