"""`Signals`: handle SIGINT, SIGTERM and SIGHUP while a command shows a run.

A signal must not raise in the main thread, which may be drawing or may hold a lock that the cancel needs. The handler
passes the signal to a thread, which requests the cancel; the main thread continues to read up to the terminal event.
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
#: From this signal on, the handler raises in the main thread, so that the user can always leave.
_RAISE_FROM = 3


def code_after(number: int) -> ExitCode:
    """Return the exit code of a command that a signal has ended."""
    return _CODES[signal.Signals(number)]


class Signals:
    """Handles signals inside its block. Main thread only.

    Until `to` is called, a signal raises `KeyboardInterrupt` or `SystemExit`. Signals that were ignored when the
    program was started stay ignored.
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
                self._before[number] = signal.signal(number, self._handle)
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
        """From now on, call `on_signal(signal, count)` in a thread; `count` is the number of signals so far."""
        self._on_signal = on_signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._on_signal is not None and self._count < _RAISE_FROM:
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
