"""Blocking work of every kind: how soon after a cancel its run is released, its thread out, and what is left over.

Beside each row stand the figures of the study that the design rests on, measured on another machine. There a run was
released when it was decided; here when its last event is read, which is after the work is gone or was given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import trustme

import requests
from bench.statistics import spread
from bench.table import Figure, Table
from desist.calls.abandoned_threads import abandoned_threads
from desist.cancel import check_cancelled, sleep
from desist.runtime.switch_interval import set_switch_interval
from desist.workflow import Step, Workflow

__all__ = ["Kind", "hanging", "kinds", "measure"]

LONG = 0.15  #: seconds after which work that can't be stopped ends by itself


@dataclass(frozen=True, slots=True)
class Kind:
    """Work to be stopped."""

    name: str
    work: Callable[[], Any]
    released: str  #: what the study found, p50/p99 in ms
    out: str
    out_ms: float | None = 10.0  #: the target for p99; None: it can't be stopped


def kinds(stack: contextlib.ExitStack) -> list[Kind]:
    """Return them all; their servers live as long as `stack`."""
    plain, secret, authority = _servers(stack)
    url, tls_url = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secret}"
    context = ssl.create_default_context(cafile=authority)
    sh = "sleep 300 & setsid sleep 300 & wait"

    def run(*command: str, **how: Any) -> Callable[[], Any]:
        return lambda: subprocess.run(command, check=False, **how)

    return [
        Kind("while True: pass", _loop, "0.23/0.30", "0.16/0.44", 60),
        Kind("check_cancelled() in a loop", _ask, "0.22/0.34", "0.15/0.25"),
        Kind("desist.cancel.sleep()", lambda: sleep(300), "0.22/0.34", "0.15/0.25"),
        Kind("a loop of short sleeps", _naps, "-", "2.0/4.9"),
        Kind("requests post", lambda: requests.post(url, json={}, timeout=300), "0.10/5.1", "0.60/5.0"),
        Kind("httpx", lambda: httpx2.get(url, timeout=None, verify=context), "0.10/0.18", "0.61/0.90"),
        Kind("httpx, TLS", lambda: httpx2.get(tls_url, timeout=None, verify=context), "0.10/0.16", "0.67/0.85"),
        Kind("urllib, no timeout", lambda: urllib.request.urlopen(url), "0.10/0.20", "0.55/0.88"),
        Kind("urllib, TLS", lambda: urllib.request.urlopen(tls_url, context=context), "0.10/0.20", "0.55/0.88"),
        Kind("recv", lambda: _receive(plain), "0.10/0.20", "0.55/0.88"),
        Kind("socket pair", _pair, "0.10/0.20", "0.55/0.88"),
        Kind("asyncio.run() in a tool", _own_loop, "-", "-"),
        Kind("subprocess.run", run("sleep", "300"), "0.13/0.20", "0.64/0.81"),
        Kind("subprocess.run, captured", run("sleep", "300", capture_output=True), "0.13/0.20", "0.81/1.03"),
        Kind("shell with children, one setsid", run("sh", "-c", sh), "0.15/0.20", "1.02/1.26"),
        Kind("time.sleep", lambda: time.sleep(LONG), "0.11/0.21", "stays", None),
        Kind("a lock", _lock, "0.11/0.21", "stays", None),
        Kind("queue.get", _get, "0.11/0.21", "stays"),
        Kind("hashing, without the GIL", _hash, "0.38/0.54", "stays", None),
        Kind("swallows RunCancelled", _swallow, "0.14/0.21", "stays", None),
    ]


def _servers(stack: contextlib.ExitStack) -> tuple[int, int, str]:
    """Start two servers that never answer; return their ports, and the path of the authority of the second."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    maker, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    maker.issue_cert("127.0.0.1").configure_cert(context)
    maker.cert_pem.write_to_path(folder / "ca.pem")
    ports = [stack.enter_context(hanging(given)) for given in (None, context)]
    return ports[0], ports[1], str(folder / "ca.pem")


@contextlib.contextmanager
def hanging(context: ssl.SSLContext | None) -> Iterator[int]:
    """Serve connections that are never answered; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            while connection.recv(65536):
                pass
        connection.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), name="hanging", daemon=True).start()

    threading.Thread(target=accept, name="hanging", daemon=True).start()
    yield listener.getsockname()[1]
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _loop() -> None:
    while True:
        pass


def _ask() -> None:
    while True:
        check_cancelled()


def _naps() -> None:
    while True:
        time.sleep(0.005)


def _receive(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.recv(1)


def _pair() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def _own_loop() -> None:
    asyncio.run(asyncio.sleep(300))


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=LONG)


def _get() -> None:
    queue.Queue[int]().get(timeout=300)


def _hash() -> None:
    hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 400_000)


def _swallow() -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            while time.monotonic() < end:
                time.sleep(0.001)


class Stop:
    """Runs one kind of work again and again, and stops it."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._inside, self._left = threading.Semaphore(0), threading.Semaphore(0)
        self._left_at = 0.0
        self.released: list[float] = []
        self.out: list[float] = []
        self.abandoned = 0
        self._workflow = Workflow("bench", steps=[Step("work", executor=self._work, max_retries=0)])

    def _work(self, _: Any) -> None:
        self._inside.release()
        try:
            self._kind.work()
        finally:
            self._left_at = time.monotonic()
            self._left.release()

    def once(self) -> None:
        """Start, stop when it is well inside, wait until it is out."""
        reader = self._workflow.run("go", stream=True)
        self._inside.acquire()
        time.sleep(0.02 if "TLS" in self._kind.name or "httpx" in self._kind.name else 0.008)
        began = time.monotonic()
        receipt = self._workflow.cancel(reader.run_id)
        for _ in reader:
            pass
        self.released.append((time.monotonic() - began) * 1e3)
        self.abandoned += len(receipt.abandoned)
        self._left.acquire()
        self.out.append((self._left_at - began) * 1e3)


def measure(*, quick: bool = False) -> Iterator[Table]:
    """Measure and yield the tables."""
    with contextlib.ExitStack() as stack:
        yield _matrix(kinds(stack), 5 if quick else 50)
    yield _pressure(20 if quick else 100)


def _matrix(rows: list[Kind], repeats: int) -> Table:
    title = "Blocking work in a step, p50/p99/worst in ms after cancel()"
    table = Table(title, columns=["work", "run released", "study", "thread out", "study", "abandoned", "left over", ""])
    for kind in rows:
        before = _held()
        stop = Stop(kind)
        for _ in range(repeats if kind.out_ms is not None else max(3, repeats // 5)):
            stop.once()
        released, out = spread(stop.released), spread(stop.out)
        assert released is not None and out is not None
        aim = kind.out_ms if kind.out_ms is not None else 60.0  # the grace, and a little
        figure = Figure(f"{kind.name}: run released, p99", released.p99, "ms", aim)
        table.figures.append(figure)
        gone = str(out) if kind.out_ms is not None else f"{out} (by itself)"
        cells = [kind.name, str(released), kind.released, gone, kind.out, f"{stop.abandoned}", _left_over(before)]
        table.rows.append([*cells, figure.verdict])
    return table.close()


def _held() -> tuple[int, int]:
    process = psutil.Process()
    return len(process.children(recursive=True)), len(process.net_connections("tcp"))


def _left_over(before: tuple[int, int]) -> str:
    """Say what is there that wasn't, after a moment for what is on its way out."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        children, sockets = (now - then for now, then in zip(_held(), before, strict=True))
        if children <= 0 and sockets <= 0 and not abandoned_threads():
            return "nothing"
        time.sleep(0.01)
    return f"{children} children, {sockets} sockets, {len(abandoned_threads())} threads"


#: p99 in ms of the study, for 0, 1, 2 and 4 busy threads, at intervals of 5 ms and 0.1 ms.
STUDY = {(0, 5.0): "0.38", (1, 5.0): "15.6", (2, 5.0): "46.7", (4, 5.0): "145"} | {
    (0, 0.1): "0.38",
    (1, 0.1): "2.2",
    (2, 0.1): "1.9",
    (4, 0.1): "8.1",
}


def _pressure(repeats: int) -> Table:
    """Cancels while other tools keep the interpreter busy, at desist's switch interval and at Python's own."""
    table = Table(
        "Cancels under GIL pressure: p50/p99/worst in ms from cancel() to the terminal event",
        columns=["busy tool threads", "interval 0.1 ms (desist's)", "study, p99", "interval 5 ms (Python's)", "study"],
    )
    for busy in (0, 1, 2, 4):
        brisk = _latency(busy, repeats)
        set_switch_interval(None)
        try:
            slow = _latency(busy, repeats)
        finally:
            set_switch_interval(1e-4)
        table.rows.append([str(busy), str(brisk), STUDY[busy, 0.1], str(slow), STUDY[busy, 5.0]])
        table.figures.append(Figure(f"cancel with {busy} busy threads, p99", brisk.p99, "ms", None))
    return table.close()


def _latency(busy: int, repeats: int) -> Any:
    ready, inside = threading.Semaphore(0), threading.Semaphore(0)

    def hog(_: Any) -> None:
        ready.release()
        _loop()

    async def wait(_: Any) -> None:
        inside.release()
        await asyncio.Event().wait()

    hogs = Workflow("hogs", steps=[hog])
    readers = [hogs.run("go", stream=True) for _ in range(busy)]
    for _ in readers:
        ready.acquire()
    workflow, times = Workflow("bench", steps=[wait]), []
    for _ in range(repeats):
        reader = workflow.run("go", stream=True)
        inside.acquire()
        time.sleep(0.003)
        began = time.monotonic()
        workflow.cancel(reader.run_id)
        for _event in reader:
            pass
        times.append((time.monotonic() - began) * 1e3)
    for reader in readers:
        reader.close()
    return spread(times)
