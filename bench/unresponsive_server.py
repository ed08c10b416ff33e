"""A server that takes connections, reads what comes and never answers, in a process of its own.

Run as `python -m bench.unresponsive_server`. It writes a line for each thing that it sees: the port, `heard TIME`,
`closed TIME`. Times are seconds of `time.monotonic`, which all processes share.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType

__all__ = ["MuteServer"]


class MuteServer:
    """The server, seen from its parent."""

    def __enter__(self) -> MuteServer:
        command = [sys.executable, "-m", "bench.unresponsive_server"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._seen: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, at = line.split()
            self._seen.put((what, float(at)))

    def wait(self, what: str) -> float:
        """Wait until the next thing is seen, which must be `what`; return when."""
        seen, at = self._seen.get(timeout=10)
        if seen != what:
            raise RuntimeError(f"the mute server saw {seen!r}, and {what!r} was waited for")
        return at

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.communicate()  # closes its stdin, which ends it


def _serve() -> None:
    threading.Thread(target=_accept, daemon=True).start()
    sys.stdin.read()


def _accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                print("heard", time.monotonic(), flush=True)
                try:
                    while client.recv(65536):
                        pass
                except OSError:
                    pass
                print("closed", time.monotonic(), flush=True)


if __name__ == "__main__":
    _serve()
