"""The arithmetic of waiting: pure, with time and chance given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from desist.cancel.token import CancelToken, use_token
from desist.exceptions import ModelError, RunCancelled
from desist.models.response import ModelResponse
from desist.models.retry import ModelCallError, backoff, fixed_waits, retry_after, retrying


def test_back_off_doubles_within_half_of_its_step() -> None:
    """0.5, 1, 2, 4, 8, 8 seconds; chance takes up to a half of each away."""
    assert list(backoff(6, random=lambda: 1.0)) == [0.5, 1, 2, 4, 8, 8]
    assert list(backoff(3, random=lambda: 0.0)) == [0.25, 0.5, 1]
    assert list(backoff(0)) == []


def test_fixed_waits() -> None:
    """The same each time, or doubled."""
    assert list(fixed_waits(3, 2.0)) == [2, 2, 2]
    assert list(fixed_waits(3, 2.0, exponential=True)) == [2, 4, 8]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds or a date; what can't be read is as if it weren't there."""
    assert retry_after(headers, clock=lambda: 60.0) == seconds


def test_the_servers_wait_goes_before_ours() -> None:
    """A wait that the server names is kept; without one it is our own."""
    errors = [ModelCallError("a", retryable=True, retry_after=3.0), ModelError("b", retryable=True)]
    waited: list[float] = []

    async def attempt() -> AsyncGenerator[ModelResponse, None]:
        if errors:
            raise errors.pop(0)
        yield ModelResponse(content="x")

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def main() -> list[str | None]:
        return [piece.content async for piece in retrying(attempt, [1.0, 2.0], sleep=sleep)]

    assert asyncio.run(main()) == ["x"]
    assert waited == [3.0, 2.0]


def test_a_cancelled_run_does_not_try_again() -> None:
    """A cancel that comes with the error ends it before another try, even if no task was told."""
    token = CancelToken()
    tries = []

    async def attempt() -> AsyncGenerator[ModelResponse, None]:
        tries.append(1)
        token.cancel()
        raise ModelError("a", retryable=True)
        yield

    async def main() -> None:
        with use_token(token):
            async for _ in retrying(attempt, [0.0, 0.0]):
                pass

    with pytest.raises(RunCancelled):
        asyncio.run(main())
    assert tries == [1]
