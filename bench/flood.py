"""Cancels over HTTP while strangers hold connections: half of the headers, half of a body, opened again when closed.

The server is a process of its own with 128 descriptors, and has a token, which the strangers don't. To measure another
version: `python -m bench.flood --python ITS_PYTHON`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.statistics import percentile
from bench.table import Figure, Table

__all__ = ["measure"]

SECRET = "a-secret-of-some-length"
STRANGERS = 200
DESCRIPTORS = 128
PATIENCE = 60  #: seconds for an answer; one that isn't there then ends the measurement
_HALVES = (
    b"GET /v1/runs HTTP/1.1\r\nHost: a\r\n",
    b"POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{",
)
PROGRAM = """
import asyncio
from desist.workflow import Step, Workflow

async def wait(given):
    await asyncio.Event().wait()

endless = Workflow("Endless", steps=[Step("wait", executor=wait)])
"""


@contextlib.contextmanager
def _serving(python: str) -> Iterator[tuple[int, Path]]:
    """Run the server, and give its port, and the file of what it says."""
    with tempfile.TemporaryDirectory() as folder:
        program, said = Path(folder, "program.py"), Path(folder, "said.log")
        program.write_text(PROGRAM)
        target = [f"{program}:endless", "--port", "0", "--token", SECRET, "--drain", "0"]
        with said.open("wb") as out:
            process = subprocess.Popen(
                [python, "-c", "from desist.cli import main; main()", "serve", *target],
                stderr=out,
                cwd=folder,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
            )
        try:
            while "serves on" not in (text := said.read_text()):
                time.sleep(0.05)
            yield int(text.partition("serves on")[2].split()[0].rpartition(":")[2]), said
        finally:
            process.terminate()
            process.wait(60)


def _ask(port: int, path: str, body: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) | {"answered": answer.status}
    finally:
        connection.close()


class _Strangers:
    """Connections that never send a whole request; whichever is closed is opened again."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._ended = port, threading.Event()
        self.opened = 0
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            self._open()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        one = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        one.sendall(_HALVES[self.opened % len(_HALVES)])
        one.setblocking(False)
        self.opened += 1
        self._selector.register(one, selectors.EVENT_READ)

    def _run(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.05):
                one: Any = key.fileobj
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    if one.recv(4096):
                        continue
                self._selector.unregister(one)
                one.close()
                with contextlib.suppress(OSError):
                    self._open()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # all are sockets
        self._selector.close()


def _cancels(python: str, count: int, seconds: float) -> tuple[list[float], int, int]:
    """Return how many ms each cancel took, bytes of the log, and how many connections the strangers opened."""
    with _serving(python) as (port, said):
        runs = [_ask(port, "/v1/runs", {"workflow": "endless"})["run_id"] for _ in range(count)]
        strangers = _Strangers(port, STRANGERS)
        before, took, began = said.stat().st_size, [], time.perf_counter()
        for number, run_id in enumerate(runs):
            time.sleep(max(0.0, began + number * seconds / count - time.perf_counter()))
            at = time.perf_counter()
            try:
                answer = _ask(port, f"/v1/runs/{run_id}/cancel", {})
                assert answer["answered"] == 202, answer
            except TimeoutError:
                break
            finally:
                took.append(1000 * (time.perf_counter() - at))
        grown = said.stat().st_size - before
        opened = strangers.opened
        strangers.end()
    return took, grown, opened


def measure(*, quick: bool = False, python: str = sys.executable) -> list[Table]:
    """Measure; see the module."""
    took, grown, opened = _cancels(python, 10 if quick else 50, 5 if quick else 30)
    table = Table(f"flood: {STRANGERS} half-sent requests, {DESCRIPTORS} descriptors, {len(took)} cancels with a token")
    table.add(
        Figure("request to answer, p50", percentile(took, 0.5), "ms"),
        Figure("request to answer, slowest", max(took), "ms", 1000.0),
        Figure("log, in all", grown / 1000, "kB", 100.0),
        Figure("connections that strangers opened", opened, ""),
    )
    return [table.close()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose desist serves")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    for shown in measure(quick=chosen.quick, python=chosen.python):
        print(shown.text())
