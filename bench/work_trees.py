"""Random trees of threads, jobs, tasks, child processes, sockets and locks that a call starts; and a count of them.

The count looks at the process from outside: at the frames of its threads, its tasks, the process table and its
connections. It must agree with what the receipt and `quarantine()` name.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psutil

from desist import Step, Workflow, quarantine

__all__ = ["CONTAINERS", "LEAVES", "Node", "Server", "cancel_tree", "random_tree"]

#: What starts its children, each in a thread, a job or a task of its own.
CONTAINERS = ("thread", "own_pool", "shared_pool", "loop")
#: What waits. A `deaf` one can't be interrupted; a `stubborn` child ignores SIGTERM.
LEAVES = ("beat", "event", "socket", "sleep", "shell", "daemon", "python", "stubborn", "deaf")
_WEIGHTS = (6, 4, 6, 4, 2, 2, 1, 1, 1)
#: Seconds that anything may take.
PATIENCE = 30.0
GRACE = 0.4
_SHELL = {
    "sleep": "exec sleep 300",
    "shell": "sleep 300 & setsid sh -c 'sleep 301; true' & wait",
    "daemon": "(setsid sleep 300 &); exec sleep 301",
    "stubborn": "trap '' TERM; while true; do sleep 1; done",
}


@dataclass(frozen=True)
class Node:
    """A part of a tree. Its name is that of the thread, job or task that is started for it."""

    kind: str
    children: tuple[Node, ...] = ()
    name: str = field(default="", compare=False)

    def named(self, prefix: str) -> Node:
        """Return the same tree, each node with a name of its own."""
        children = tuple(child.named(f"{prefix}.{number}") for number, child in enumerate(self.children))
        return Node(self.kind, children, prefix)


def random_tree(chance: random.Random, depth: int = 3) -> Node:
    """Return a tree whose root is a container."""
    children = [
        random_tree(chance, depth - 1)
        if depth > 1 and chance.random() < 0.4
        else Node(chance.choices(LEAVES, _WEIGHTS)[0])
        for _ in range(chance.randint(1, 3))
    ]
    return Node(chance.choice(CONTAINERS), tuple(children))


class Server:
    """A server that takes connections and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, name="silent-server", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._read, args=(connection,), name="silent-connection", daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(1024):
                pass


class Job:
    """A function with the name of its node, as receipts show it."""

    def __init__(self, function: Callable[[Node], None], node: Node) -> None:
        self._function, self._node, self.__qualname__ = function, node, node.name

    def __call__(self) -> None:
        self._function(self._node)


class TreeWork:
    """The work of one tree."""

    def __init__(self, root: Node, server: Server, shared: ThreadPoolExecutor) -> None:
        self.mark = uuid.uuid4().hex
        self.root = root.named(f"node-{self.mark[:8]}")
        self._server, self._shared = server, shared
        self._environ = os.environ | {"PROOF": self.mark}
        self._held = threading.Lock()
        self._held.acquire()

    def let_go(self) -> None:
        """Let what is deaf end."""
        if self._held.locked():
            self._held.release()

    def do(self, node: Node) -> None:
        """Work at a node in this thread: one such frame is one thing at work."""
        if node.children:
            getattr(self, f"_{node.kind}")(node)
        elif node.kind in _SHELL:
            subprocess.run(["sh", "-c", _SHELL[node.kind]], env=self._environ, check=False)
        else:
            getattr(self, f"_{node.kind}")()

    def _thread(self, node: Node) -> None:
        threads = [threading.Thread(target=self.do, args=(child,), name=child.name) for child in node.children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _own_pool(self, node: Node) -> None:
        with ThreadPoolExecutor(len(node.children), thread_name_prefix="tree-pool") as pool:
            for future in [pool.submit(Job(self.do, child)) for child in node.children]:
                future.result()

    def _shared_pool(self, node: Node) -> None:
        for future in [self._shared.submit(Job(self.do, child)) for child in node.children]:
            future.result()

    def _loop(self, node: Node) -> None:
        asyncio.run(self.start_tasks(node))

    async def start_tasks(self, node: Node) -> None:
        """Work at the children of a node in tasks."""
        await asyncio.gather(
            *[asyncio.create_task(self._in_task(child), name=f"{child.name}-task") for child in node.children]
        )

    async def _in_task(self, node: Node) -> None:
        if node.kind in _SHELL:
            process = await asyncio.create_subprocess_exec("sh", "-c", _SHELL[node.kind], env=self._environ)
            await process.wait()
        elif node.kind == "socket":
            reader, writer = await asyncio.open_connection(*self._server.address)
            try:
                await reader.read()
            finally:
                writer.close()
        elif node.kind == "beat":
            while True:
                await asyncio.sleep(0.001)
        else:
            await asyncio.to_thread(Job(self.do, node))

    def _beat(self) -> None:
        while True:
            time.sleep(0.001)

    def _event(self) -> None:
        threading.Event().wait()

    def _socket(self) -> None:
        with socket.create_connection(self._server.address) as connection:
            connection.recv(1)

    def _python(self) -> None:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(300)"], env=self._environ, check=False)

    def _deaf(self) -> None:
        with self._held:
            pass

    # -- counted from outside

    def at_work(self) -> set[str]:
        """Return the names of the nodes at which threads and tasks are at work."""
        return {*self._in_threads(), *self._in_tasks()}

    def _in_threads(self) -> Iterator[str]:
        for frame in list(sys._current_frames().values()):
            inner: Any = frame
            while inner is not None:
                if inner.f_code is TreeWork.do.__code__ and inner.f_locals.get("self") is self:
                    yield inner.f_locals["node"].name
                inner = inner.f_back

    def _in_tasks(self) -> Iterator[str]:
        for thing in gc.get_objects():
            if not issubclass(type(thing), asyncio.Task) or thing.done():
                continue
            if thing.get_name().startswith(self.root.name) and thing.get_loop().is_running():
                yield thing.get_name()

    def processes(self) -> set[int]:
        """Return the numbers of the live processes that carry the mark of this tree."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PROOF") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process.pid)
        return found

    def connections(self) -> int:
        """Return how many connections to the server are open."""
        return sum(c.raddr == self._server.address for c in psutil.Process().net_connections("tcp"))


def cancel_tree(
    root: Node, delay: float, *, is_async: bool, face: str, server: Server, shared: ThreadPoolExecutor
) -> tuple[int, int]:
    """Run a tree as the work of one call, cancel it after `delay` seconds, and compare what is left with the receipt.

    Returns:
        How many things were abandoned, and how many were at work when the cancel was requested.

    Raises:
        AssertionError: something is left that isn't named, or is named and isn't left.
    """
    work, entered = TreeWork(root, server, shared), threading.Event()

    async def start_async(_: Any) -> None:
        entered.set()
        await work.start_tasks(work.root)

    def start(_: Any) -> None:
        entered.set()
        work.do(work.root)

    step = Step("work", executor=start_async if is_async else start, max_retries=0)
    workflow = Workflow("Trees", steps=[step], grace=GRACE)
    caller = threading.Thread(target=_call, args=(workflow, face, work.mark), daemon=True)
    caller.start()
    assert entered.wait(PATIENCE), "the call hasn't begun"
    time.sleep(delay)
    busy = len(work.at_work()) + len(work.processes())
    receipt = workflow.cancel(work.mark)
    try:
        assert receipt.wait(PATIENCE), "not settled"
        _compare(work, receipt.abandoned)
    finally:
        work.let_go()
    caller.join(PATIENCE)
    _wait(lambda: not work.at_work() and not _listed(work), "let go of, and still there", work)
    assert work.processes() == set() and not caller.is_alive()
    _wait(lambda: work.connections() == 0, "a connection is open", work)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith(("tree-pool", work.root.name)) for name in names), names
    return len(receipt.abandoned), busy


def _call(workflow: Workflow, face: str, run_id: str) -> None:
    if face == "run":
        workflow.run("go", run_id=run_id)
    else:
        asyncio.run(workflow.arun("go", run_id=run_id))  # type: ignore[arg-type]


def _compare(work: TreeWork, abandoned: list[Any]) -> None:
    """What is left is named, now; and soon what is listed is what is left, no more and no less."""
    named = {_node_name(work, left.name) for left in abandoned}
    pids = {int(left.waits_for.split()[1].rstrip(":")) for left in abandoned if left.kind == "process"}
    unnamed = work.at_work() - named
    assert not unnamed, f"still at work and not named: {sorted(unnamed)}; named: {sorted(named)}"
    assert work.processes() <= pids, f"alive and not named: {work.processes() - pids}"
    if not abandoned:
        assert not _listed(work)
    _wait(lambda: work.at_work() == _listed(work), "listed is not what is at work", work)


def _listed(work: TreeWork) -> set[str]:
    """Return what `quarantine()` lists of the tree, without those tasks of asyncio and of the run itself."""
    found = {_node_name(work, info.name) for info in quarantine() if info.root_run_id == work.mark}
    return {name for name in found if name.startswith(work.root.name)}


def _node_name(work: TreeWork, name: str) -> str:
    return work.root.name if name in ("start", "start_async") else name


def _wait(true: Callable[[], bool], what: str, work: TreeWork) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        at_work, listed = sorted(work.at_work()), sorted(_listed(work))
        assert time.monotonic() < deadline, f"{what}: at work {at_work}, listed {listed}, open {work.connections()}"
        time.sleep(0.005)
