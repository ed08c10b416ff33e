"""Strangers who hold connections, and send nothing, half, or too much: a cancel with a token is answered all the same.

Real sockets, and a server that is a process of its own. Nothing is judged by the clock: that a cancel was answered in
spite of half-sent requests is shown by these, which are still open then, or were closed for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from flood_program import SECRET
from server_harness import HANG

PROGRAM = str(Path(__file__).with_name("flood_program.py"))
TOKEN = {"Authorization": f"Bearer {SECRET}"}
NEVER = 3600.0
HEADERS = b"GET /v1/runs HTTP/1.1\r\nHost: a\r\nX-More: "
BODY = b"POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{"
ALLOWED = (
    f"POST /v1/runs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 900\r\n\r\n{{".encode()
)
ASKED = f"GET /v1/runs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()


@dataclass
class Place:
    """A server under attack."""

    port: int
    log: Path
    pid: int
    stack: contextlib.ExitStack

    def client(self, address: str = "127.0.0.1") -> httpx2.Client:
        """Return a client with an address of this machine."""
        transport = httpx2.HTTPTransport(local_address=address)
        url = f"http://127.0.0.1:{self.port}"
        client = httpx2.Client(base_url=url, timeout=HANG, trust_env=False, headers=TOKEN, transport=transport)
        return self.stack.enter_context(client)

    def connect(self, sent: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        """Return a connection that has sent this."""
        one = socket.create_connection(("127.0.0.1", self.port), timeout=HANG, source_address=(address, 0))
        self.stack.callback(one.close)
        one.sendall(sent)
        return one

    def start(self, workflow: str = "endless") -> str:
        with httpx2.Client(trust_env=False, timeout=HANG) as client:
            url = f"http://127.0.0.1:{self.port}/v1/runs"
            return str(client.post(url, json={"workflow": workflow}, headers=TOKEN).json()["run_id"])

    def cancel(self, run_id: str) -> int:
        """Cancel over a separate connection."""
        with httpx2.Client(trust_env=False, timeout=HANG) as client:
            url = f"http://127.0.0.1:{self.port}/v1/runs/{run_id}/cancel"
            return client.post(url, json={}, headers=TOKEN).status_code

    def follow(self, client: httpx2.Client, run_id: str) -> httpx2.Response:
        """Open a stream and leave it open."""
        return self.stack.enter_context(client.stream("GET", f"/v1/runs/{run_id}/events"))

    def sockets(self) -> int:
        """Return the number of the server's sockets."""
        folder = f"/proc/{self.pid}/fd"
        found = 0
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found += os.readlink(f"{folder}/{name}").startswith("socket:")
        return found


@contextlib.contextmanager
def attacked(tmp_path: Path, descriptors: int = 1024, **limits: Any) -> Iterator[Place]:
    """Run a server, without timeouts unless they are given."""
    known: dict[str, Any] = {"header_timeout": NEVER, "body_timeout": NEVER, "patience": NEVER, **limits}
    log = tmp_path / "said.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, PROGRAM, str(descriptors), json.dumps(known)], stderr=out)
    try:
        while "serves on" not in (said := log.read_text()):
            assert process.poll() is None, said
        port = int(said.partition("serves on")[2].split()[0].rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            yield Place(port, log, process.pid, stack)
        assert process.poll() is None
    finally:
        process.terminate()
        try:
            assert process.wait(HANG) == 0
        finally:
            process.kill()
    said = log.read_text()
    assert "Traceback" not in said and len(said) < 10_000, said


def is_open(one: socket.socket) -> bool:
    """Return whether the server still waits for the rest of the request."""
    one.setblocking(False)
    try:
        return bool(one.recv(1, socket.MSG_PEEK)) and False
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def rest(one: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    one.settimeout(HANG)
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := one.recv(65536):
            said += part
    return said


@pytest.mark.parametrize("sent", [b"", HEADERS, BODY, ALLOWED], ids=["nothing", "headers", "body", "allowed"])
def test_a_cancel_beside_200_half_sent_requests(tmp_path: Path, sent: bytes) -> None:
    """With 128 descriptors, some incomplete requests are closed, others stay open, and the cancel is answered."""
    with attacked(tmp_path, 128) as place:
        run_id = place.start()
        strangers = [place.connect(sent) for _ in range(200)]
        assert place.cancel(run_id) == 202
        stay = [is_open(one) for one in strangers]
        if sent != BODY:  # without a token these are answered
            assert any(stay) and not all(stay)
            assert stay == sorted(stay), "the oldest are closed first"
        assert "room for" in place.log.read_text()


@pytest.mark.parametrize("sent", [HEADERS, ALLOWED], ids=["headers", "body"])
def test_one_byte_now_and_then_does_not_prolong_it(tmp_path: Path, sent: bytes) -> None:
    """The timeouts are for the whole headers and the whole body: 408, and no run is started."""
    with attacked(tmp_path, header_timeout=0.5, body_timeout=0.5) as place:
        one = place.connect(sent)
        for _ in range(600):
            one.settimeout(0.05)
            try:
                said = one.recv(100)
                break
            except TimeoutError:
                one.send(b" ")
        else:
            pytest.fail("it was never closed")
        assert said.startswith(b"HTTP/1.1 408 ") and place.client().get("/v1/runs").json()["runs"] == []


@pytest.mark.parametrize("after", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["new", "used"])
def test_a_silent_connection_is_closed(tmp_path: Path, after: bytes) -> None:
    """A new connection and a used one are closed without a response."""
    with attacked(tmp_path, header_timeout=0.3) as place:
        said = rest(place.connect(after))
        assert b"408" not in said and said.startswith(b"HTTP/1.1 200" if after else b"")


def test_a_body_that_nobody_waits_for(tmp_path: Path) -> None:
    """A refused client that continues to send its body is closed after the timeout, without a second response."""
    with attacked(tmp_path, body_timeout=0.5) as place:
        one = place.connect(BODY)
        said = b""
        for _ in range(600):
            one.settimeout(0.05)
            try:
                if not (part := one.recv(1000)):
                    break
                said += part
            except TimeoutError:
                one.send(b" ")
            except ConnectionError:
                break
        else:
            pytest.fail("it was never closed")
        assert said.startswith(b"HTTP/1.1 401 ") and said.count(b"HTTP/1.1") == 1


def test_a_slow_reader_of_events_leaves_nothing_behind(tmp_path: Path) -> None:
    """A client that reads nothing is disconnected, and its descriptor is released, though it never closes."""
    with attacked(tmp_path, patience=0.5) as place:
        run_id = place.start("flood")
        before = place.sockets()
        path = f"/v1/runs/{run_id}/events"
        asked = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode()
        readers = [place.connect(asked) for _ in range(3)]
        for one in readers:
            assert one.recv(12) == b"HTTP/1.1 200"
        for _ in range(5000):
            if place.sockets() <= before:
                break
            assert place.cancel("unknown") == 404  # the server is at work meanwhile
        assert place.sockets() <= before
        assert place.cancel(run_id) == 202


def test_many_streams_from_one_address(tmp_path: Path) -> None:
    """An address with the maximum of connections is refused more streams, but not a cancel; others are served."""
    with attacked(tmp_path, connections_per_address=4) as place:
        run_id, mine = place.start(), place.client()
        for _ in range(4):
            place.follow(mine, run_id)
        refused = mine.get("/v1/runs")
        assert refused.status_code == 503 and refused.headers["retry-after"] and "too many" in refused.json()["detail"]
        assert place.client("127.0.0.2").get("/v1/runs").status_code == 200
        assert place.cancel(run_id) == 202


def test_room_is_kept_for_cancels(tmp_path: Path) -> None:
    """If all connections except the reserved ones are in use, a cancel is answered and nothing else."""
    with attacked(tmp_path, connections=20, reserved=4) as place:
        run_id, mine = place.start(), place.client()
        for _ in range(16):
            place.follow(mine, run_id)
        assert mine.get("/v1/runs").status_code == 503
        assert place.cancel(run_id) == 202


def test_half_a_body_gives_way_to_a_request(tmp_path: Path) -> None:
    """Requests with an incomplete body count as open, and the oldest of them is closed for the next one."""
    with attacked(tmp_path, connections=20, reserved=4) as place:
        halves = [place.connect(ALLOWED) for _ in range(16)]
        assert place.client().get("/v1/runs").status_code == 200
        assert rest(halves[0]) == b"" and is_open(halves[-1])


def test_one_address_does_not_push_out_another(tmp_path: Path) -> None:
    """The connection that is closed belongs to the address with the most, though another's is older."""
    with attacked(tmp_path, connections=20) as place:
        other = place.connect(ASKED[:-2], "127.0.0.2")
        flood = [place.connect(HEADERS) for _ in range(60)]
        assert rest(flood[0]) == b""
        other.sendall(b"\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("waiting", [5, 0])
def test_descriptors_that_have_run_out(tmp_path: Path, waiting: int) -> None:
    """Without free descriptors, a waiting connection is closed for a cancel; otherwise a new one gets 503."""
    with attacked(tmp_path, 128) as place:
        mine = place.client()
        run_id = mine.post("/v1/runs", json={"workflow": "endless"}).json()["run_id"]
        followed = place.follow(mine, run_id) if not waiting else None
        hog = mine.post("/v1/runs", json={"workflow": "hog"}).json()["run_id"]
        if followed is not None:
            place.follow(mine, hog)  # the connection is in use: none waits
        else:
            while not place.client().get(f"/v1/runs/{hog}").json().get("steps"):
                pass
        if waiting:
            assert place.cancel(run_id) == 202
        else:
            for _ in range(50):
                assert rest(place.connect(ASKED))[:12] in (b"HTTP/1.1 503", b"")  # nothing where it was reset
        assert "cannot accept" in place.log.read_text()


def test_requests_one_after_the_other_on_one_connection(tmp_path: Path) -> None:
    """Also pipelined, before the first response."""
    with attacked(tmp_path) as place:
        one = place.connect(ASKED * 3 + ASKED.replace(b"Host", b"Connection: close\r\nHost"))
        assert rest(one).count(b"HTTP/1.1 200") == 4


def test_what_is_not_http_does_not_fill_the_log(tmp_path: Path) -> None:
    """Each is answered with 400; the log contains few lines about it."""
    with attacked(tmp_path) as place:
        for _ in range(300):
            assert rest(place.connect(b"\x00\x01\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert place.log.read_text().count("Invalid HTTP") == 5


def test_too_few_descriptors_to_serve(tmp_path: Path) -> None:
    """The error names the number that is needed."""
    command = [sys.executable, PROGRAM, "30", "{}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1 and "30 open files (ulimit -n) leave room for" in done.stderr
