"""The parent's side of a loopback provider in a child process: start it, send commands, copy its record.

Parent and child exchange pickled values over a socket pair. The child runs `desist.testing.provider.remote_main`.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from typing import Any

from desist.testing.provider.exchange import ExchangeLog

__all__ = ["ProviderProcess"]


class ProviderProcess:
    """Runs a server in a child process, which ends when the connection closes, at the latest with this process."""

    def __init__(self, log: ExchangeLog) -> None:
        self._log = log
        self._lock = threading.Lock()  #: held to send a command
        self._answered = threading.Condition()
        self._commands = self._acks = 0
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, port: int, tls: tuple[str, str] | None) -> int:
        """Start the process and wait until it listens. Raises OSError with the child's error."""
        self._connection, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-m", "desist.testing.provider.remote_main", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self._connection.send((port, tls))
        try:
            first = self._connection.recv()
        except EOFError:
            first = "the process ended without an answer"
        if not isinstance(first, int):
            self._connection.close()
            self._process.wait()
            self._process = None
            raise OSError(f"the provider's process could not start: {first}")
        self._reader = threading.Thread(target=self._read, name="loopback-provider-reader", daemon=True)
        self._reader.start()
        return first

    def stop(self) -> None:
        """Stop the child and wait for its end."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            self._connection.send(None)
        self._reader.join()
        process.wait()
        self._connection.close()

    def send(self, verb: str, arguments: dict[str, Any]) -> None:
        """Call a method of the server in the child and wait for its return. Does nothing if the child was stopped.

        Raises OSError if the child has died.
        """
        with self._lock:
            if self._process is None:
                return
            self._connection.send((verb, arguments))
            self._commands += 1
            number = self._commands
        with self._answered:
            self._answered.wait_for(lambda: self._acks >= number or self._ended)

    def _read(self) -> None:
        try:
            while True:
                self._take(*self._connection.recv())
        except (EOFError, OSError):  # the child has ended
            with self._answered:
                self._ended = True
                self._answered.notify_all()

    def _take(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "done":
            with self._answered:
                self._acks += 1
                self._answered.notify_all()
        elif kind == "request":
            self._log.request(**fields)
        elif kind == "connections":
            self._log.count(**fields)
        else:
            self._log.update(self._log.exchanges[fields.pop("index")], **fields)
