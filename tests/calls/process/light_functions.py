"""Functions whose worker needn't import desist's upper floors: for tests that start many."""

from __future__ import annotations

import os
import socket
import time


def sleeping(door: str) -> None:
    """Sleep.

    Args:
        door: where to say so
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door)
        line.sendall(str(os.getpid()).encode())
    time.sleep(30)
