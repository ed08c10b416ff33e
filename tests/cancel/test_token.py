"""The token: a tree, isolated callbacks, waits that end at once; from any thread."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from desist.cancel import CancelToken, check_cancelled, current_token, on_cancel, sleep, use_token
from desist.cancel.reason import CancelReason, Source
from desist.exceptions import RunCancelled

REASON = CancelReason(source=Source.user, text="enough")


def test_a_child_is_cancelled_with_its_parent_and_not_the_other_way() -> None:
    """Down, never up; a child of a cancelled token is born cancelled; the reason is the same."""
    root = CancelToken()
    left, right = root.child(), root.child()
    leaf = left.child()
    left.cancel(REASON)
    assert (root.cancelled, left.cancelled, leaf.cancelled, right.cancelled) == (False, True, True, False)
    root.cancel(CancelReason(source=Source.deadline))
    assert left.reason is REASON and right.reason is not None and right.reason.source is Source.deadline
    assert left.child().reason is REASON


def test_only_the_first_cancel_counts() -> None:
    """The second returns False and changes nothing."""
    token = CancelToken()
    assert token.cancel(REASON) is True
    assert token.cancel() is False
    assert token.reason is REASON


@pytest.mark.loud
@pytest.mark.parametrize("error", [ValueError, RunCancelled, asyncio.CancelledError])
def test_a_callback_that_fails_keeps_no_other_from_running(error: type[BaseException]) -> None:
    """Whatever it raises: the canceller hears nothing of it, the others are called, children too."""
    token, called = CancelToken(), []

    def fail() -> None:
        raise error

    token.on_cancel(fail)
    token.on_cancel(lambda: called.append("second"))
    child = token.child()
    child.on_cancel(lambda: called.append("child"))
    assert token.cancel(REASON)
    assert called == ["second", "child"]


def test_a_callback_is_called_once_or_taken_back() -> None:
    """At once on a token that is cancelled already; never after it was taken back, though it be twice."""
    token, called = CancelToken(), []
    forget = token.on_cancel(lambda: called.append("forgotten"))
    forget()
    forget()
    token.on_cancel(lambda: called.append("kept"))
    token.cancel(REASON)
    token.on_cancel(lambda: called.append("late"))()
    assert called == ["kept", "late"]


def test_every_callback_runs_exactly_once_though_all_threads_race() -> None:
    """Two hundred times: four register, four cancel; one canceller wins, no callback is lost or doubled."""
    for _ in range(200):
        token, start = CancelToken(), threading.Barrier(8)
        called: list[int] = []
        won: list[bool] = []

        def register(who: int, token: CancelToken = token, start: threading.Barrier = start, called=called) -> None:  # type: ignore[no-untyped-def]
            start.wait(10)
            for number in range(5):
                token.on_cancel(lambda number=number: called.append(10 * who + number))

        def stop(token: CancelToken = token, start: threading.Barrier = start, won=won) -> None:  # type: ignore[no-untyped-def]
            start.wait(10)
            won.append(token.cancel(REASON))

        threads = [threading.Thread(target=register, args=(who,)) for who in range(4)]
        threads += [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(called) == [10 * who + number for who in range(4) for number in range(5)]
        assert won.count(True) == 1


def test_sleep_and_wait_end_at_once() -> None:
    """A sleeping thread is woken with `RunCancelled`; `wait` returns whether it was cancelled."""
    token, asleep, heard = CancelToken(), threading.Event(), []

    def work() -> None:
        asleep.set()
        try:
            with use_token(token):
                sleep(60)
        except RunCancelled as cancelled:
            heard.append(cancelled.reason)

    thread = threading.Thread(target=work)
    thread.start()
    asleep.wait(10)
    assert token.wait(0) is False
    token.cancel(REASON)
    thread.join(10)
    assert heard == [REASON] and token.wait(0) is True


def test_blocking_waits_are_refused_on_a_loop() -> None:
    """They would block it: the error says what to do instead."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"asyncio\.sleep"):
            CancelToken().sleep(0)

    asyncio.run(main())


def test_a_token_does_not_keep_its_children() -> None:
    """A run with thousands of calls holds only the tokens that are in use."""
    root = CancelToken()
    gone = weakref.ref(root.child())
    gc.collect()
    assert gone() is None


def test_outside_of_a_run_nothing_is_cancelled() -> None:
    """The helpers work there, so that tools can be tested alone."""
    check_cancelled()
    on_cancel(lambda: None)()
    assert not current_token().cancelled
