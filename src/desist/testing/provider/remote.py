"""The parent's side of a loopback provider in a child process: start it, send commands, copy its record.

Parent and child exchange JSON lines over the child's stdin and stdout. The child runs
`desist.testing.provider.remote_main`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from desist.testing.provider.exchange import ExchangeLog
from desist.testing.provider.replies import Reply

__all__ = ["ProviderProcess"]


class ProviderProcess:
    """Runs a server in a child process. The child ends when its stdin closes, so at the latest with this process."""

    def __init__(self, log: ExchangeLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._answered = threading.Condition()
        self._commands = self._acks = 0
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self, port: int, tls: tuple[str, str] | None) -> int:
        """Start the process and wait until it listens. Raises OSError with the child's error."""
        command = [sys.executable, "-m", "desist.testing.provider.remote_main"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=-1
        )
        self._send({"port": port, "tls": tls})
        assert self._process.stdout is not None
        first = json.loads(self._process.stdout.readline() or b'{"error": "the process ended without output"}')
        if "error" in first:
            self._end()
            raise OSError(f"the provider's process could not start: {first['error']}")
        self._reader = threading.Thread(target=self._read, name="loopback-provider-reader", daemon=True)
        self._reader.start()
        return int(first["port"])

    def stop(self) -> None:
        """Stop the child and wait for its end."""
        if self._process is not None:
            self._end()

    def send(self, verb: str, arguments: dict[str, Any]) -> None:
        """Call a method of the server in the child and wait for its return. Does nothing if the child was stopped.

        Raises OSError if the child has died.
        """
        if "replies" in arguments:
            arguments["replies"] = [reply.to_json() for reply in arguments["replies"]]
        if isinstance(arguments.get("reply"), Reply):
            arguments["reply"] = arguments["reply"].to_json()
        number = self._send({"verb": verb, "arguments": arguments})
        with self._answered:
            self._answered.wait_for(lambda: self._acks >= number or self._ended)

    def _send(self, line: dict[str, Any]) -> int:
        """Send a line; return the number of acknowledgements after which it is done; 0 if none will come."""
        with self._lock:
            if self._process is None or self._process.stdin is None:
                return 0
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
            if "verb" in line:
                self._commands += 1
            return self._commands

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.close()
        if self._reader is not None:
            self._reader.join()
        process.wait()
        process.stdout.close()

    def _read(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        for line in process.stdout:
            self._take(*json.loads(line))
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
            exchange = self._log.exchanges[fields.pop("index")]
            if "writes" in fields:
                fields["writes"] = [tuple(write) for write in fields["writes"]]
            self._log.update(exchange, **fields)
