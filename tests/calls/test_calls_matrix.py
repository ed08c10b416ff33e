"""Every kind of blocking work stops, as a step and as a tool, through the public API; or it is named as abandoned.

`receipt.abandoned == []` of a settled run says that the call is out of its thread: the run waited for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from calls_scenario import Face, LateEnds, Place, Scene
from hanging_server import PATIENCE, HangingServer

import requests
from desist import Step, Workflow
from desist.calls.blocking_syscalls import blocking_fds
from desist.cancel import RunCancelled, check_cancelled, current_token, sleep
from desist.testing import Gate

LINUX = sys.platform == "linux"
linux = pytest.mark.skipif(not LINUX, reason="what a thread is blocked in is known on Linux only")
PLACES: list[tuple[Place, Face]] = [("step", "run"), ("tool", "run"), ("tool", "arun")]
everywhere = pytest.mark.parametrize(("place", "face"), PLACES, ids=lambda x: x)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def check_out(scene: Scene, receipt: Any, by: type[BaseException] = RunCancelled) -> None:
    """The call is out of its thread, by `RunCancelled` or by what was taken away from it."""
    assert receipt.abandoned == [], receipt.abandoned
    assert scene.left.is_set()
    assert isinstance(scene.raised, by), repr(scene.raised)


# -- sockets


def with_requests(url: str) -> None:
    requests.post(url, json={}, timeout=300)


def with_requests_stream(url: str) -> None:
    with requests.get(url.replace("/headers", "/body"), stream=True) as answer:
        for _ in answer.iter_content(1024):
            pass


def with_httpx(url: str) -> None:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    httpx2.get(url, timeout=None, verify=context)


def with_httpx_poll(url: str) -> None:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    httpx2.get(url, timeout=300, verify=context)


def with_urllib(url: str) -> None:
    # A context of its own: from 3.12 on, `urlopen` keeps that of its first call, which knows no certificate of tests.
    urllib.request.urlopen(url, context=ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE")))


def with_asyncio(url: str) -> None:
    async def fetch() -> None:
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
        async with httpx2.AsyncClient(timeout=None, verify=context) as client:
            await client.get(url)

    asyncio.run(fetch())


CLIENTS = [with_requests, with_requests_stream, with_httpx, with_httpx_poll, with_urllib, with_asyncio]


@everywhere
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda f: f.__name__)
@linux
def test_http_clients(
    client: Callable[[str], None], tls: bool, place: Place, face: Face, request: pytest.FixtureRequest
) -> None:
    """A6: a call inside an HTTP client is out, and the server sees the end of the connection."""
    server: HangingServer = request.getfixturevalue("tls_server" if tls else "server")
    with sockets_gone():
        scene = Scene(lambda: client(f"{server.url}/headers"), place=place, face=face).start()
        server.wait_arrived()
        receipt = scene.wait_blocked().stop()
        # The tasks of a loop in the thread are cancelled as tasks are, so that their cleanup runs.
        check_out(scene, receipt, asyncio.CancelledError if client is with_asyncio else RunCancelled)
        server.wait_ended()


@contextlib.contextmanager
def sockets_gone() -> Iterator[None]:
    """No connection to 127.0.0.1 is open afterwards that wasn't before."""

    def connections() -> set[Any]:
        return {(c.laddr, c.raddr) for c in psutil.Process().net_connections("tcp") if c.raddr}

    before = connections()
    yield
    assert connections() - before == set()


def receive(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"hello")
        connection.recv(1)


def receive_with_a_timeout(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=300) as connection:
        connection.sendall(b"hello")
        connection.recv(1)


def select_on_it(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"hello")
        select.select([connection], [], [connection])


def poll_on_it(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"hello")
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.poll()


def epoll_on_it(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection, select.epoll() as poll:
        connection.sendall(b"hello")
        poll.register(connection, select.EPOLLIN)
        poll.poll()


RAW = [receive, receive_with_a_timeout, select_on_it, poll_on_it, epoll_on_it]


@everywhere
@pytest.mark.parametrize("read", RAW, ids=lambda f: f.__name__)
@linux
def test_raw_sockets(read: Callable[[tuple[str, int]], None], place: Place, face: Face, server: HangingServer) -> None:
    """A6: a call inside recv, select, poll or epoll on a socket that it has opened is out."""
    with sockets_gone():
        scene = Scene(lambda: read(server.address), place=place, face=face).start()
        server.wait_arrived()
        check_out(scene, scene.wait_blocked().stop())
        server.wait_ended()


@everywhere
@pytest.mark.parametrize("way", ["pair", "accept", "send"])
@linux
def test_other_socket_calls(way: str, place: Place, face: Face) -> None:
    """A6: a call inside recv of a socket pair, accept, or a send that nobody reads, is out."""

    def work() -> None:
        if way == "accept":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.accept()
        one, other = socket.socketpair()
        with one, other:
            if way == "pair":
                one.recv(1)
            one.sendall(bytes(100_000_000))

    scene = Scene(work, place=place, face=face).start().wait_blocked()
    check_out(scene, scene.stop())


@linux
def test_a_socket_that_was_opened_before(server: HangingServer) -> None:
    """E6: a kept connection on which the call is blocked is shut down, whatever opened it; the receipt counts it."""
    with socket.create_connection(server.address) as kept:
        kept.sendall(b"hello")
        server.wait_arrived()
        scene = Scene(lambda: kept.recv(1)).start().wait_blocked()
        receipt = scene.stop()
        check_out(scene, receipt)
        assert receipt.connections_closed == 1 and receipt.upstream_closed == 0


@linux
def test_a_socket_for_which_another_thread_waits_is_left_alone(server: HangingServer) -> None:
    """A socket that serves other code of the process at this moment isn't shut down: the call is named."""
    with socket.create_connection(server.address) as shared:
        shared.sendall(b"hello")
        server.wait_arrived()
        other = threading.Thread(target=shared.recv, args=(1,), daemon=True)
        other.start()
        scene = Scene(lambda: shared.recv(1), grace=0.05).start().wait_blocked()
        wait_until(lambda: blocking_fds(other.native_id or 0) == [shared.fileno()])
        receipt = scene.stop()
        [left] = receipt.abandoned
        assert left.kind == "thread" and "shared.recv(1)" in (left.blocked_in or "")
        assert f"{server.address[0]}:{server.address[1]}" in (left.waits_for or "")
        assert shared.getpeername() == server.address  # still connected
        assert receipt.connections_closed == 0
        shared.shutdown(socket.SHUT_RDWR)
        assert scene.left.wait(PATIENCE)
        other.join(PATIENCE)


@linux
def test_a_listening_socket_and_a_pair_are_left_alone() -> None:
    """A socket that listens, and one whose other end is in this process, aren't shut down."""
    one, other = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening, one, other:
        for wait, free in (
            (listening.accept, lambda: socket.create_connection(listening.getsockname()).close()),
            (lambda: one.recv(1), lambda: other.send(b"x")),
        ):
            scene = Scene(wait, grace=0.05).start().wait_blocked()
            receipt = scene.stop()
            assert len(receipt.abandoned) == 1 and receipt.connections_closed == 0
            free()
            assert scene.left.wait(PATIENCE)


@everywhere
def test_waits_on_conditions_are_woken(place: Place, face: Face) -> None:
    """A queue, an event, a future and a semaphore wait on a condition, which wakes for the exception."""
    for wait in (
        queue.Queue[int]().get,
        threading.Event().wait,
        Future[int]().result,
        threading.Semaphore(0).acquire,
        threading.Barrier(2).wait,
    ):
        scene = Scene(wait, place=place, face=face).start()
        check_out(scene, scene.stop())


def test_a_condition_is_whole_after_its_waiter_was_woken() -> None:
    """The lock of the condition is free, and a notice reaches the next waiter."""
    items: queue.Queue[int] = queue.Queue()
    for _ in range(50):
        scene = Scene(items.get).start()
        check_out(scene, scene.stop())
        items.put(1)
        assert items.get(timeout=PATIENCE) == 1


# -- child processes


class Family:
    """Processes that a tool starts; they tell their numbers at a door, a pipe with a name."""

    def __init__(self, door: Path) -> None:
        os.mkfifo(door)
        self.environ = os.environ | {"DOOR": str(door)}
        self._read = os.open(door, os.O_RDWR)
        self.born: list[psutil.Process] = []

    def wait_born(self, count: int) -> None:
        """Wait until so many have told that they live."""
        heard = b""
        while heard.count(b"\n") < count:
            assert select.select([self._read], [], [], PATIENCE)[0], f"only these have told that they live: {heard!r}"
            heard += os.read(self._read, 4096)
        self.born = [psutil.Process(int(line)) for line in heard.split()]

    def alive(self) -> list[int]:
        """Return the numbers of those that run."""
        return [process.pid for process in self.born if self._runs(process)]

    @staticmethod
    def _runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait_dead(self) -> None:
        """Wait until all have ended: a killed process takes a moment to die."""
        gone = [process for process in self.born if self._runs(process)]
        deadline = time.monotonic() + PATIENCE
        while any(map(self._runs, gone)) and time.monotonic() < deadline:
            psutil.wait_procs(gone, timeout=0.01)
        assert self.alive() == []

    def close(self) -> None:
        for process in self.born:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        os.close(self._read)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path / "door")
    yield family
    family.close()


TELL = "echo $$ > $DOOR; exec sleep 300"
#: A child, one more, one in a session of its own, and one below another child.
TREE = f"""
sh -c '{TELL}' &
setsid sh -c '{TELL}' &
sh -c 'sh -c "echo \\$\\$ > \\$DOOR; exec sleep 300" & echo $$ > $DOOR; wait' &
echo $$ > $DOOR
wait
"""
SHELLS = {
    "plain": (TELL, 1, {}),
    "captured": (TELL, 1, {"capture_output": True}),
    "captured with input": (TELL, 1, {"capture_output": True, "input": b"x" * 1_000_000}),
    "a tree": (TREE, 5, {}),
    "a tree, captured": (TREE, 5, {"capture_output": True}),
}


@everywhere
@pytest.mark.parametrize("shell", SHELLS)
@linux
def test_child_processes(shell: str, place: Place, face: Face, family: Family) -> None:
    """A7: a call that waits for a child process is out, and the child and all below it are dead, setsid or not."""
    words, count, how = SHELLS[shell]
    scene = Scene(
        lambda: subprocess.run(["sh", "-c", words], env=family.environ, check=False, **how), place=place, face=face
    ).start()
    family.wait_born(count)
    receipt = scene.wait_blocked().stop()
    check_out(scene, receipt)
    family.wait_dead()
    assert psutil.Process().children() == []


@linux
def test_a_daemon_that_was_let_go_is_found(family: Family) -> None:
    """E10: a process whose parent has ended, in a session of its own, is found by the mark in its environment."""

    def work() -> None:
        subprocess.run(["sh", "-c", f"setsid sh -c '{TELL}' & exit"], env=family.environ, check=False)
        returned.set()
        while True:
            check_cancelled()

    returned = threading.Event()
    scene = Scene(work).start()
    family.wait_born(1)
    assert returned.wait(PATIENCE)
    check_out(scene, scene.stop())
    assert family.alive() == []


@linux
def test_a_daemon_of_a_finished_call_lives_on(family: Family) -> None:
    """What a call has left running when it ended without a cancel is touched by no later cancel."""

    def leave(_: Any) -> None:
        left.append(subprocess.Popen(["sh", "-c", TELL], env=family.environ))
        family.wait_born(1)

    left: list[subprocess.Popen[bytes]] = []

    gate = Gate()

    async def wait(_: Any) -> None:
        await gate.wait()

    workflow = Workflow("Two", steps=[Step("leave", executor=leave), Step("wait", executor=wait)])
    events = workflow.run("go", stream=True)
    gate.wait_reached()
    receipt = workflow.cancel(events.run_id)
    assert receipt.wait(PATIENCE) and receipt.abandoned == []
    assert family.alive() == [family.born[0].pid]
    left[0].kill()
    left[0].wait(PATIENCE)


ANY_MOMENT = """
import gc, os, random, subprocess, threading, time
import psutil
from desist import Step, Workflow
chance, inside = random.Random(3), threading.Semaphore(0)
def work(_):
    inside.release()
    subprocess.run(["sleep", "300"], capture_output=True)
def once():
    workflow = Workflow("w", steps=[Step("work", executor=work, max_retries=0)], grace=20)
    events = workflow.run("go", stream=True)
    inside.acquire()
    time.sleep(chance.random() * 0.005)
    receipt = workflow.cancel(events.run_id)
    assert receipt.wait(20) and receipt.abandoned == [] and [*events][-1].is_cancelled
once()
before = len(os.listdir("/proc/self/fd"))
for _ in range(100):
    once()
    assert psutil.Process().children() == []
gc.collect()
print("left over:", len(os.listdir("/proc/self/fd")) - before)
"""


@linux
def test_children_at_any_moment() -> None:
    """A7: whenever the cancel comes, before, in or after the start of a child: no child and no pipe is left.

    In a process of its own: an interrupt in a finalizer is reported to a hook, and pytest's isn't made for that.
    """
    done = subprocess.run([sys.executable, "-c", ANY_MOMENT], capture_output=True, text=True, timeout=PATIENCE * 2)
    assert (done.returncode, done.stdout.strip()) == (0, "left over: 0"), done


@linux
def test_a_child_of_an_earlier_call_is_left_alone() -> None:
    """What an earlier call of the same thread has started on purpose isn't touched by the cancel of a later one."""
    started: list[subprocess.Popen[bytes]] = []
    Workflow("starts", steps=[lambda _: started.append(subprocess.Popen(["sleep", "300"]))]).run("go")
    [child] = started
    try:
        for _ in range(3):
            check_out(scene := Scene(loop).start(), scene.stop())
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


# -- Python code, and what cooperates


def loop() -> None:
    while True:
        pass


def loop_that_counts() -> None:
    count = 0
    while True:
        count += 1


def loop_of_sleeps() -> None:
    while True:
        time.sleep(0.001)


def recursion() -> int:
    return sum(recursion() if depth else 0 for depth in iter(int, 1))


def generator() -> None:
    def numbers() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    for _ in numbers():
        pass


def token_sleep() -> None:
    sleep(300)


def token_wait() -> None:
    current_token().wait()
    check_cancelled()


def token_check() -> None:
    while True:
        check_cancelled()


def except_exception() -> None:
    while True:
        try:
            loop_of_sleeps()
        except Exception:
            pass


PYTHON = [
    loop, loop_that_counts, loop_of_sleeps, recursion, generator, token_sleep, token_wait, token_check,
    except_exception,
]  # fmt: skip


@everywhere
@pytest.mark.parametrize("work", PYTHON, ids=lambda f: f.__name__)
def test_python_code(work: Callable[[], Any], place: Place, face: Face) -> None:
    """A8, A9: Python code is left at its next byte code, and what cooperates at once."""
    scene = Scene(work, place=place, face=face).start()
    check_out(scene, scene.stop())


# -- what can't be interrupted


class Hold:
    """Things that hold a call until the test lets go of them."""

    def __init__(self) -> None:
        self.lock, self.items = threading.Lock(), queue.SimpleQueue[int]()
        self.pipe = os.pipe()
        self.lock.acquire()

    def let_go(self) -> None:
        self.lock.release()
        self.items.put(1)
        os.write(self.pipe[1], b"x")

    def close(self) -> None:
        for fd in self.pipe:
            os.close(fd)


@pytest.fixture
def hold() -> Iterator[Hold]:
    hold = Hold()
    yield hold
    hold.close()


def take_lock(hold: Hold) -> None:
    with hold.lock:
        pass


def get_item(hold: Hold) -> None:
    hold.items.get()


def read_pipe(hold: Hold) -> None:
    os.read(hold.pipe[0], 1)


def plain_sleep(hold: Hold) -> None:
    time.sleep(1)


def hash_long(hold: Hold) -> None:
    hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 2_000_000)  # lets other threads run meanwhile


DEAF = [take_lock, get_item, read_pipe, plain_sleep, hash_long]


@everywhere
@pytest.mark.parametrize("work", DEAF, ids=lambda f: f.__name__)
def test_what_stays_is_named(
    work: Callable[[Hold], None], place: Place, face: Face, hold: Hold, late_ends: LateEnds
) -> None:
    """A9: what can't be interrupted is named with where it stands, its run settles, and its late end is logged."""
    scene = Scene(lambda: work(hold), place=place, face=face, grace=0.05).start()
    receipt = scene.stop()
    [left] = receipt.abandoned
    assert left.kind == "thread" and left.name
    assert work.__name__ in (left.blocked_in or ""), left.blocked_in
    assert scene.output.cancel.abandoned == [left]
    assert scene.output.cancel.settled_at - scene.output.cancel.requested_at >= 0.05
    hold.let_go()
    late_ends.wait()
    assert isinstance(scene.raised, RunCancelled) or scene.raised is None


@everywhere
def test_code_that_swallows_it(place: Place, face: Face, late_ends: LateEnds) -> None:
    """A call that swallows RunCancelled is told again, is named when the grace is over, and its result is dropped."""
    swallowed, enough = [], threading.Event()

    def swallow() -> None:
        while not enough.is_set():
            try:
                while not enough.is_set():
                    time.sleep(0.001)
            except BaseException as error:
                swallowed.append(type(error).__name__)

    scene = Scene(swallow, place=place, face=face, grace=0.2).start()
    receipt = scene.stop()
    assert len(receipt.abandoned) == 1
    assert len(swallowed) >= 1 and set(swallowed) == {"RunCancelled"}
    enough.set()
    late_ends.wait()
    assert "done" not in str(scene.output.content)
    assert all(step.content != "done" for step in scene.output.step_results)


def test_many_deaf_calls_are_refused(hold: Hold, monkeypatch: pytest.MonkeyPatch, late_ends: LateEnds) -> None:
    """Threads that were given up are counted; past the limit, new blocking work is an error that names them."""
    monkeypatch.setattr("desist.calls.thread_pool.MAX_ABANDONED", 2)
    for _ in range(2):
        Scene(lambda: hold.items.get(), grace=0.0).start().stop()
    refused = Scene(lambda: None, place="step")
    output = refused.workflow.run("go")
    assert "2 abandoned calls still occupy threads" in output.step_results[0].error
    hold.items.put(1)
    hold.let_go()
    late_ends.wait()
    late_ends.wait()
    assert refused.workflow.run("go").step_results[0].success
