"""The channel: sealed, overtaken, interrupted while it waits; and the latch and the receipt beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from desist.cancel.reason import CancelReason, Source
from desist.cancel.receipt import CancelReceipt, CancelRecord
from desist.cancel.scope import Outcome
from desist.cancel.status import RunStatus
from desist.runtime.latch import Latch
from desist.streams.channel import ChannelClosed, EventChannel


def rest(channel: EventChannel[str]) -> list[str]:
    """What a reader gets from now on."""
    found = []
    while True:
        try:
            found.append(channel.get())
        except ChannelClosed:
            return found


def test_nothing_follows_the_terminal_event() -> None:
    """Putting or holding after `close` is an error, and the reader hears that it is over, again and again."""
    channel: EventChannel[str] = EventChannel(threading.Lock())
    channel.put("a")
    channel.close(["end"])
    for late in (channel.put, channel.put_deferred):
        with pytest.raises(RuntimeError, match="after the terminal event"):
            late("b")
    assert rest(channel) == ["a", "end"]
    assert rest(channel) == []


def test_a_cancel_overtakes_the_backlog() -> None:
    """What is dropped isn't read; what was held comes right before the end, in its order."""
    channel: EventChannel[str] = EventChannel(threading.Lock())
    for item in ("text", "step", "more text"):
        channel.put(item)
    channel.discard(lambda item: "text" in item)
    channel.put_deferred("child 1 cancelled")
    channel.put_deferred("child 2 cancelled")
    channel.close(["cancelled"])
    assert rest(channel) == ["step", "child 1 cancelled", "child 2 cancelled", "cancelled"]


def test_a_waiting_thread_is_woken_by_each_event() -> None:
    """A thousand events one by one to a reader that waits for each; none is lost."""
    lock = threading.Lock()
    channel: EventChannel[int] = EventChannel(lock)
    got: list[int] = []
    turn = threading.Semaphore(0)

    def read() -> None:
        while True:
            try:
                got.append(channel.get())
            except ChannelClosed:
                return
            turn.release()

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1000):
        with lock:
            channel.put(number)
        assert turn.acquire(timeout=10)
    with lock:
        channel.close()
    reader.join(10)
    assert got == list(range(1000))


def test_an_async_reader_is_woken_from_threads() -> None:
    """The same on a loop, with four producers at once: all events, each producer's in its order."""

    async def main() -> None:
        lock = threading.Lock()
        channel: EventChannel[tuple[int, int]] = EventChannel(lock)
        left = threading.Semaphore(0)

        def produce(who: int) -> None:
            for number in range(500):
                with lock:
                    channel.put((who, number))
            left.release()

        def close() -> None:
            for _ in range(4):
                left.acquire()
            with lock:
                channel.close()

        threads = [threading.Thread(target=produce, args=(who,)) for who in range(4)]
        threads.append(threading.Thread(target=close))
        for thread in threads:
            thread.start()
        got = []
        with pytest.raises(ChannelClosed):
            while True:
                got.append(await channel.aget())
        for who in range(4):
            assert [number for by, number in got if by == who] == list(range(500))
        for thread in threads:
            thread.join(10)

    asyncio.run(main())


def test_an_async_reader_that_was_cancelled_can_read_on() -> None:
    """A cancelled `aget` takes nothing with it."""

    async def main() -> None:
        lock = threading.Lock()
        channel: EventChannel[str] = EventChannel(lock)
        waiting = asyncio.ensure_future(channel.aget())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with lock:
            channel.put("kept")
        assert await channel.aget() == "kept"

    asyncio.run(main())


CTRL_C = """
import os, signal, threading
from desist.streams.channel import EventChannel, ChannelClosed
lock = threading.Lock()
channel = EventChannel(lock)
def press():
    while not channel._waiting:
        pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    channel.get()
except KeyboardInterrupt:
    print("interrupted")
for number in range(3):  # the ring of the first may find the bell as the interrupt left it
    with lock:
        channel.put(number)
    assert channel.get() == number
threading.Timer(0.05, lambda: (lock.acquire(), channel.close(["end"]), lock.release())).start()
print(channel.get())
try:
    channel.get()
except ChannelClosed:
    print("closed")
"""


def test_ctrl_c_interrupts_a_waiting_reader_which_can_read_on() -> None:
    """The wait is interruptible, and no ring is lost or doubled by it."""
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["interrupted", "end", "closed"], done.stderr


def test_a_latch_wakes_threads_and_loops_alike() -> None:
    """Whoever waits before or after hears of it; setting twice is once."""
    latch, called = Latch(), []
    latch.add_done_callback(lambda: called.append("before"))
    assert latch.wait(0) is False

    async def main() -> None:
        threading.Thread(target=latch.set).start()
        await latch.wait_async()

    asyncio.run(main())
    latch.set()
    latch.add_done_callback(lambda: called.append("after"))
    assert called == ["before", "after"] and latch.is_set and latch.wait(0)


def receipt(outcome: Outcome, latch: Latch | None = None, record: CancelRecord | None = None) -> CancelReceipt:
    """A receipt of run "r"."""
    return CancelReceipt(outcome, "r", lambda: RunStatus.cancelled, record, latch)


def test_receipts_of_one_cancel_are_equal_whoever_asked_first() -> None:
    """The repeat's outcome differs, the receipt is the same; another run's isn't."""
    record = CancelRecord.of(CancelReason(source=Source.user, text="enough", by="me"))
    first, again = receipt(Outcome.accepted, None, record), receipt(Outcome.already_cancelled, None, record)
    assert first == again and hash(first) == hash(again)
    assert first != receipt(Outcome.finished) and first != "r"
    assert (first.source, first.reason, first.by) == (Source.user, "enough", "me")
    assert "enough" in repr(first)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_receipt_is_truthy_exactly_for_a_run_that_ends_cancelled(outcome: Outcome) -> None:
    """Not for one that finished, or isn't known."""
    assert bool(receipt(outcome)) is (outcome not in (Outcome.finished, Outcome.unknown))


def test_waiting_for_a_receipt() -> None:
    """`wait` says whether it has settled; `await` returns the receipt; an unknown run has nothing to wait for."""
    latch = Latch()
    pending = receipt(Outcome.accepted, latch)
    assert pending.wait(0) is False
    latch.set()
    assert pending.wait() is True
    assert receipt(Outcome.unknown).wait() is False

    async def main() -> None:
        assert await pending is pending
        assert not await receipt(Outcome.unknown)

    asyncio.run(main())
