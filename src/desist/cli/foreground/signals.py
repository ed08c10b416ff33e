"""Signals while a command shows a run: Ctrl-C, SIGTERM, a terminal that is gone.

They must not be raised in the middle of whatever the main thread is at - drawing, or holding the lock that a cancel
needs. So they are handed to a thread, which asks for the cancel; the main thread reads on to the run's end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from desist.cli.exit_codes import ExitCode

__all__ = ["Signals", "code_after"]

_CODES = {signal.SIGINT: ExitCode.interrupted, signal.SIGTERM: ExitCode.terminated, signal.SIGHUP: ExitCode.hung_up}
#: From this one on, a signal is raised in the main thread: whatever that waits for, somebody wants to leave.
_ENOUGH = 3


def code_after(number: int) -> ExitCode:
    """Return the exit code of a command that a signal has ended."""
    return _CODES[signal.Signals(number)]


class Signals:
    """Takes signals inside its block. Main thread only.

    Until `to` was called they are raised: as `KeyboardInterrupt`, or as `SystemExit`. Signals that whoever started the
    program has it ignore stay ignored.
    """

    def __init__(self) -> None:
        self._on_signal: Callable[[int, int], object] | None = None
        self._count = 0
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._work, name="desist-signals", daemon=True)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._thread.start()
        for number in _CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's job in the background
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def to(self, on_signal: Callable[[int, int], object]) -> None:
        """From now on, call `on_signal(signal, count)` in a thread, with how many have come."""
        self._on_signal = on_signal

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._on_signal is not None and self._count < _ENOUGH:
            os.write(self._writer, bytes([number]))
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(code_after(number))

    def _work(self) -> None:
        count = 0
        while numbers := os.read(self._reader, 1):
            count += 1
            assert self._on_signal is not None
            self._on_signal(numbers[0], count)
