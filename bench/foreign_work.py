"""What isn't the call's is left alone: jobs of other code in a shared pool, and descriptors whose numbers are reused.

A command only: `python -m bench.foreign_work [--jobs N] [--cancels N] [--descriptors N]`. Ends with 1 if anything that
isn't a call's was interrupted or shut down.
"""

from __future__ import annotations

import argparse
import logging
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.statistics import spread
from desist import Step, Workflow

__all__ = ["cancel_beside_descriptors", "cancel_beside_jobs"]

PATIENCE = 30.0
THREADS = 8


def _cancelled(
    work: Callable[[], Any], entered: threading.Semaphore, delay: float, instead: Callable[[], None] | None = None
) -> int:
    """Run `work` as a call and cancel it `delay` seconds after it was entered; return how much was abandoned.

    Parameters:
        work: what the call does.
        entered: released when it is well inside.
        delay: seconds.
        instead: called instead of a cancel, to have the call end by itself.
    """
    workflow = Workflow("Ours", steps=[Step("work", executor=lambda _: work(), max_retries=0)], grace=PATIENCE)
    reader = workflow.run("go", stream=True)
    assert entered.acquire(timeout=PATIENCE), "the call hasn't begun"
    time.sleep(delay)
    if instead is not None:
        instead()
        for _ in reader:
            pass
        return 0
    receipt = workflow.cancel(reader.run_id)
    assert receipt.wait(PATIENCE), "not settled"
    for _ in reader:
        pass
    return len(receipt.abandoned)


def cancel_beside_jobs(
    jobs: int, cancels: int, seed: int = 1, *, cancel: bool = True, seconds: list[float] | None = None
) -> dict[str, int]:
    """Cancel calls whose jobs share a pool with jobs of other code.

    Parameters:
        jobs: how many jobs of other code.
        cancels: how many calls.
        seed: of the moments of the cancels.
        cancel: cancel the calls; otherwise they end by themselves at these moments.
        seconds: gets the time that each foreign job took in its thread.

    Returns:
        How many foreign jobs were done and how many failed, and how much of the calls was abandoned.
    """
    ours_may_end = threading.Event()
    took: list[float] = [] if seconds is None else seconds
    chance, entered = random.Random(seed), threading.Semaphore(0)
    room = threading.Semaphore(4 * THREADS)  # so many foreign jobs wait in the pool at most
    done: list[object] = []

    def foreign(number: int) -> int:
        began, total = time.perf_counter(), 0
        for k in range(200):  # byte code: an exception that was sent too late would be raised here
            total += k
        took.append(time.perf_counter() - began)
        return number

    def feed() -> None:
        for number in range(jobs):
            room.acquire()
            future = pool.submit(foreign, number)
            future.add_done_callback(note)

    def note(future: Any) -> None:
        done.append(future.exception() or future.result())
        room.release()

    def ours() -> None:
        futures = [pool.submit(busy) for _ in range(3)]
        entered.release()
        for future in futures:
            future.result()

    def busy() -> None:
        while not ours_may_end.is_set():
            time.sleep(0.0005)

    def one(delay: float) -> int:
        ours_may_end.clear()
        return _cancelled(ours, entered, delay, None if cancel else ours_may_end.set)

    with ThreadPoolExecutor(THREADS) as pool:
        feeder = threading.Thread(target=feed)
        feeder.start()
        left = sum(one(chance.random() * 0.003) for _ in range(cancels))
        feeder.join()
    failed = [value for value in done if not isinstance(value, int)]
    return {"jobs": len(done), "failed": len(failed), "abandoned": left}


class _Churn:
    """Threads that open and close connections as fast as they can, and check that nobody else closes them."""

    def __init__(self, threads: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._enough = False
        self.opened = 0
        self.broken: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()
        self._threads = [threading.Thread(target=self._go) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(64):
                    if data != b"hang":
                        connection.sendall(data)
            except OSError:
                pass

    def _go(self) -> None:
        while not self._enough:
            try:
                with socket.create_connection(self.address) as connection:
                    for _ in range(3):
                        connection.sendall(b"x")
                        if connection.recv(1) != b"x":
                            raise OSError("shut down")
            except OSError as error:
                self.broken.append(str(error))
            self.opened += 1

    def stop(self) -> None:
        self._enough = True
        for thread in self._threads:
            thread.join(PATIENCE)


def cancel_beside_descriptors(cancels: int, seed: int = 1) -> dict[str, int]:
    """Cancel calls that wait for a connection, kept or new, while other threads open and close connections.

    Returns:
        How many foreign connections were opened and how many broke, and how much of the calls was abandoned.
    """
    chance, entered, churn = random.Random(seed), threading.Semaphore(0), _Churn(4)

    def short_connection() -> None:
        while True:  # its number is free again at any moment
            with socket.create_connection(churn.address) as connection:
                connection.sendall(b"x")
                entered.release()
                connection.recv(1)

    def waits(connection: socket.socket) -> None:
        connection.sendall(b"hang")
        entered.release()
        connection.recv(1)

    def new_connection() -> None:
        with socket.create_connection(churn.address) as connection:
            waits(connection)

    left = 0
    try:
        for number in range(cancels):
            delay = chance.random() * 0.001
            if number % 3 == 0:
                with socket.create_connection(churn.address) as kept:
                    left += _cancelled(lambda kept=kept: waits(kept), entered, delay)  # type: ignore[misc]
            else:
                left += _cancelled(new_connection if number % 3 == 1 else short_connection, entered, delay)
            while entered.acquire(blocking=False):
                pass
    finally:
        churn.stop()
    return {"opened": churn.opened, "broken": len(churn.broken), "abandoned": left}


def main() -> int:
    """Run both; print the counts."""
    parser = argparse.ArgumentParser(prog="python -m bench.foreign_work", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--cancels", type=int, default=1000)
    parser.add_argument("--descriptors", type=int, default=10_000)
    chosen = parser.parse_args()
    logging.getLogger("desist").addHandler(logging.NullHandler())
    for cancel in (False, True):
        seconds: list[float] = []
        beside_jobs = cancel_beside_jobs(chosen.jobs, chosen.cancels, cancel=cancel, seconds=seconds)
        times = spread([1e6 * one for one in seconds])
        print(f"{chosen.cancels} calls beside jobs of others, {'cancelled' if cancel else 'that end by themselves'}:")
        print(f"    {beside_jobs}, a foreign job takes {times} us (p50/p99/worst)", flush=True)
    beside_descriptors = cancel_beside_descriptors(chosen.descriptors)
    print(f"{chosen.descriptors} cancels beside connections of others: {beside_descriptors}", flush=True)
    return int(any(found["failed" if "failed" in found else "broken"] for found in (beside_jobs, beside_descriptors)))


if __name__ == "__main__":
    sys.exit(main())
