"""Retries of a model call, ours so that a cancel ends them: nothing is retried once a piece was shown.

Called by the models. Waits are plain `asyncio.sleep`s. What may be retried, an error says itself (`retryable`).
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
LONGEST_ASKED = 60.0  #: seconds that a server may ask for; who asks for more is not waited for


#: HTTP statuses after which another try may help, besides every 5xx.
RETRYABLE_STATUS = frozenset({408, 409, 429})


def is_retryable(status: int) -> bool:
    """Whether another try may help after this HTTP status."""
    return status in RETRYABLE_STATUS or status >= 500


class ModelCallError(ModelError):
    """A failed call whose server said when to come again: `retry_after`, in seconds, or None."""

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
    """Yield a wait in seconds for each retry: doubling, between half and the whole of its step."""
    for n in range(retries):
        step = min(FIRST_WAIT * 2**n, LONGEST_WAIT)
        yield step * (1 + random()) / 2


def fixed_waits(retries: int, delay: float, *, exponential: bool = False) -> Iterator[float]:
    """Yield `delay` seconds for each retry; with `exponential`, doubled each time."""
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
        return max(0.0, seconds) if seconds == seconds else None  # not-a-number isn't equal to itself
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
    """Yield the pieces of `attempt()`; while none was shown, try again after each of `waits` (seconds).

    Raises:
        ModelError: of the last try, or of the first that can't be retried.
        RunCancelled: the run was cancelled before another try.
    """
    for wait in itertools.chain(waits, (None,)):
        shown = False
        check_cancelled()
        try:
            async with contextlib.aclosing(attempt()) as pieces:
                async for piece in pieces:
                    shown = True
                    yield piece
            return
        except ModelError as error:
            asked: float | None = getattr(error, "retry_after", None)
            if wait is None or shown or not error.retryable or (asked or 0.0) > LONGEST_ASKED:
                raise
            pause = wait if asked is None else asked
            run = current_run()
            ids = run.ids if run is not None else None
            log.info("run %s: retrying in %.2f s: %s", run and run.run_id, pause, error, extra=ids)
        await sleep(pause)
