"""How the machine is doing: what a wake-up costs without any of us, and how busy it is."""

from __future__ import annotations

import os
import threading
import time

from bench.statistics import Spread, spread

__all__ = ["Wakes", "load"]


def load() -> str:
    """Return the load averages."""
    return "/".join(f"{value:.1f}" for value in os.getloadavg())


class Wakes:
    """Wakes a plain thread, which holds the time, again and again: the floor under every latency here."""

    @staticmethod
    def now(repeats: int = 200) -> Spread:
        """Return the times from ringing to being awake, in milliseconds."""
        bell, heard = threading.Semaphore(0), threading.Semaphore(0)
        rung_at = 0.0
        times: list[float] = []

        def listen() -> None:
            for _ in range(repeats):
                bell.acquire()
                times.append((time.monotonic() - rung_at) * 1e3)
                heard.release()

        listener = threading.Thread(target=listen)
        listener.start()
        for _ in range(repeats):
            time.sleep(0.001)
            rung_at = time.monotonic()
            bell.release()
            heard.acquire()
        listener.join()
        found = spread(times)
        assert found is not None
        return found
