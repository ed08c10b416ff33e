"""Daemons of a call, which have neither its process as a parent nor its session: killed with it, or named."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import daemons
import pytest
from started_scenario import Place, Run, Way, wait_until

from desist import Step, Workflow
from desist.testing import Gate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process table is read through /proc")


class Daemon:
    """One daemon, seen from outside: its file and its pidfd."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._handle = -1

    def wait_ready(self) -> None:
        """Wait until it lives."""
        wait_until(lambda: os.path.exists(self.path), "the daemon isn't there")
        self.pid = int(Path(self.path).read_text())
        self._handle = os.pidfd_open(self.pid)
        assert self.lives()

    def lives(self) -> bool:
        """Return whether it lives, now. A process without memory has been killed, and is being removed."""
        with contextlib.suppress(OSError):
            has_memory = not Path(f"/proc/{self.pid}/statm").read_text().startswith("0 ")
            return has_memory and not select.select([self._handle], [], [], 0)[0]
        return False

    def close(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[Callable[[], Daemon]]:
    made: list[Daemon] = []

    def new() -> Daemon:
        made.append(Daemon(tmp_path / str(len(made))))
        return made[-1]

    yield new
    for daemon in made:
        daemon.close()


@pytest.fixture
def daemon(new_daemon: Callable[[], Daemon]) -> Daemon:
    return new_daemon()


def marks(pid: int) -> list[str]:
    """Return the lines by which the process table tells a mark."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            lines.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return [line for line in lines if "desist-call-" in line]


def nap_for_ever() -> None:
    while True:
        time.sleep(0.001)


def stop(run: Run, daemon: Daemon) -> None:
    daemon.wait_ready()
    receipt = run.stop()
    assert receipt.abandoned == [], receipt.abandoned
    assert not daemon.lives(), "the receipt is empty, and the daemon lives"
    run.wait_over()


@pytest.mark.parametrize("make", daemons.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("place", "way"), [("step", "run"), ("tool", "parallel arun")])
def test_of_sync_code(make: Callable[[str], None], place: Place, way: Way, daemon: Daemon) -> None:
    """A cancelled sync call leaves no daemon, however that was made."""

    def work() -> None:
        make(daemon.path)
        nap_for_ever()

    stop(Run(work, place=place, way=way).start(), daemon)


@pytest.mark.parametrize("make", daemons.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("way", ["run", "arun"])
def test_of_async_code(make: Callable[[str], None], way: Way, daemon: Daemon) -> None:
    """A cancelled async call leaves no daemon, however that was made."""

    async def work() -> None:
        make(daemon.path)
        await asyncio.sleep(300)

    stop(Run(work, way=way).start(), daemon)


@pytest.mark.parametrize("make", [daemons.in_the_call, daemons.of_spawned_process], ids=lambda way: way.__name__)
def test_a_daemon_that_was_not_to_be_interrupted_is_named(make: Callable[[str], None], daemon: Daemon) -> None:
    """A call that only its token may stop: what it has started is left alone, and the daemon is named like the rest."""
    gate = threading.Event()

    def work(_: object) -> None:
        make(daemon.path)
        gate.wait()

    workflow = Workflow("One", steps=[Step("work", executor=work, interrupt="cooperative")], grace=1.0)
    reader = workflow.run("go", stream=True)
    daemon.wait_ready()
    receipt = workflow.cancel(reader.run_id)
    assert receipt.wait(10)
    assert daemon.lives()
    assert [left.kind for left in receipt.abandoned] == ["thread", "process"], receipt.abandoned
    assert f"process {daemon.pid}:" in (receipt.abandoned[1].waits_for or "")
    gate.set()
    for _event in reader:
        pass


def test_daemons_of_others_are_not_touched(new_daemon: Callable[[], Daemon]) -> None:
    """A daemon that other code makes during a cancelled call, and one of a call that had ended, live on."""
    ours, others, earlier = new_daemon(), new_daemon(), new_daemon()
    gate = Gate()

    async def work(_: object) -> None:
        daemons.fork_daemon(ours.path)
        await gate.wait()

    steps = [Step("earlier", executor=lambda _: daemons.fork_daemon(earlier.path)), Step("work", executor=work)]
    workflow = Workflow("Two", steps=steps)
    reader = workflow.run("go", stream=True)
    gate.wait_reached()
    daemons.fork_daemon(others.path)
    for daemon in (ours, others, earlier):
        daemon.wait_ready()
    receipt = workflow.cancel(reader.run_id)
    assert receipt.wait(10) and receipt.abandoned == []
    assert [daemon.lives() for daemon in (ours, others, earlier)] == [False, True, True]
    for _event in reader:
        pass


def test_the_process_that_forks_is_not_marked(daemon: Daemon) -> None:
    """The mark of a call is in the processes that it forks, and not in its own, from where other code could pass it."""
    forked = threading.Event()

    def work() -> None:
        daemons.fork_daemon(daemon.path)
        forked.set()
        nap_for_ever()

    run = Run(work).start()
    assert forked.wait(10)
    daemon.wait_ready()
    assert marks(daemon.pid)
    assert marks(os.getpid()) == []
    assert "DESIST_CALL" not in os.environ
    stop(run, daemon)
