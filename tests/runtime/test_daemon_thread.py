"""Threads for blocking work beside a loop: used again, and never shared by two jobs at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from desist.runtime.daemon_thread import to_daemon_thread


def test_a_thread_is_used_again() -> None:
    """A call that follows another one uses its thread, under its own name."""

    async def main() -> None:
        def where() -> tuple[int, str]:
            return threading.get_ident(), threading.current_thread().name

        first, second = await to_daemon_thread(where, "one"), await to_daemon_thread(where, "two")
        assert first[0] == second[0] and (first[1], second[1]) == ("one", "two")

    asyncio.run(main())


def test_a_call_that_blocks_delays_no_other() -> None:
    """While a call blocks, even one whose task was cancelled, others go on in other threads."""

    async def main() -> None:
        begun, let_go, ended = threading.Event(), threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            let_go.wait(60)
            ended.set()

        blocked = asyncio.create_task(to_daemon_thread(block, "blocked"))
        assert await to_daemon_thread(lambda: begun.wait(60), "other")
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert [await to_daemon_thread(threading.active_count, "more") > 0 for _ in range(3)] == [True] * 3
        assert not ended.is_set()
        let_go.set()
        assert await to_daemon_thread(lambda: ended.wait(60), "last")

    asyncio.run(main())


def test_a_job_leaves_nothing_to_the_next() -> None:
    """Context variables and errors of a job are its own."""

    async def main() -> None:
        mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")

        def fail() -> None:
            mark.set("set")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await to_daemon_thread(fail, "fail")
        assert await to_daemon_thread(mark.get, "next") == "unset"

    asyncio.run(main())
