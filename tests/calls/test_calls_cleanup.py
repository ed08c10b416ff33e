"""Cleaning up: `finally` with real work in it, hooks, compensations; all within the grace, none hides the cancel."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from calls_scenario import Scene
from hanging_server import PATIENCE, HangingServer

from desist import RunCancelled, Step, Workflow
from desist.cancel import RunStatus, sleep
from desist.testing import Gate

linux = pytest.mark.skipif(sys.platform != "linux", reason="what a thread is blocked in is known on Linux only")

# -- finally


def say_goodbye(server: HangingServer, log: list[Any]) -> None:
    """What cleanup does in earnest: time passes, a server is told, a program is called."""
    time.sleep(0.005)
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"bye")
        log.append(connection.recv(2))
    done = subprocess.run(["sh", "-c", "sleep 0.02; echo bye"], capture_output=True, check=True)
    log.append(done.stdout)


def in_a_loop(server: HangingServer) -> None:
    while True:
        time.sleep(0.001)


def in_a_socket(server: HangingServer) -> None:
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"hello")
        connection.recv(1)


def in_a_child(server: HangingServer) -> None:
    subprocess.run(["sleep", "300"], check=False)


def in_the_token(server: HangingServer) -> None:
    sleep(300)


@linux
@pytest.mark.parametrize("place", ["step", "tool"])
@pytest.mark.parametrize("wait", [in_a_loop, in_a_socket, in_a_child, in_the_token], ids=lambda f: f.__name__)
def test_finally_may_use_sockets_and_children(
    wait: Callable[[HangingServer], None], place: Any, server: HangingServer
) -> None:
    """A `finally` may tell a server and call programs: once the exception has arrived, nothing is taken away."""
    log: list[Any] = []

    def work() -> None:
        try:
            wait(server)
        finally:
            say_goodbye(server, log)

    scene = Scene(work, place=place).start()
    if wait is not in_a_loop:
        scene.wait_blocked() if wait is not in_the_token else None
    assert scene.stop().abandoned == []
    assert log == [b"ok", b"bye\n"] and isinstance(scene.raised, RunCancelled)


@linux
def test_finally_that_hangs_is_ended(server: HangingServer) -> None:
    """When three quarters of the grace are over, what a `finally` waits for is taken away too."""

    def work() -> None:
        try:
            in_a_loop(server)
        finally:
            in_a_socket(server)

    scene = Scene(work, grace=1.0).start()
    receipt = scene.stop()
    assert receipt.abandoned == [] and isinstance(scene.raised, RunCancelled)
    assert receipt.settled_at - receipt.requested_at >= 0.74
    server.wait_ended()


def test_the_exception_says_why() -> None:
    """`RunCancelled` in a tool carries the reason, also where it is raised from outside."""
    for wait in (in_a_loop, in_the_token):
        scene = Scene(lambda wait=wait: wait(None)).start()
        scene.stop()
        assert type(scene.raised).__name__ == "RunCancelled"
        assert "enough" in str(scene.raised)


# -- hooks and compensations


class Trip:
    """Three steps; the third one hangs at a gate."""

    def __init__(self, face: str = "run", **options: Any) -> None:
        self.log: list[Any] = []
        self.gate = Gate()
        self.face = face
        self.workflow = Workflow(
            "Trip",
            grace=options.pop("grace", PATIENCE),
            on_cancel=self.of_workflow,
            steps=[
                Step("one", executor=lambda _: "1", compensate=self.undo_one),
                Step("two", executor=self.two, compensate=options.pop("undo_two", self.undo_two)),
                Step("three", executor=self.three, compensate=self.undo_three, on_cancel=self.stop_three),
                Step("four", executor=lambda _: self.log.append("never"), compensate=self.undo_one),
            ],
            **options,
        )

    async def two(self, given: Any) -> str:
        return "2"

    def three(self, given: Any) -> None:
        self.gate.wait_blocking(PATIENCE)

    def undo_one(self, output: Any) -> None:
        self.log.append(("undo", output.step_name, output.content))

    async def undo_two(self, output: Any, session_state: dict[str, Any]) -> None:
        await asyncio.sleep(0.001)
        self.log.append(("undo", output.step_name, output.content))

    def undo_three(self, output: Any) -> None:
        self.log.append(("undo", "three", output.cancelled))

    def stop_three(self, output: Any, record: Any) -> None:
        self.log.append(("on_cancel", "three", record.reason))

    async def of_workflow(self, output: Any) -> None:
        self.log.append(("on_cancel", "Trip", output.status))

    def stop(self, **how: Any) -> Any:
        """Run it to the gate, cancel it, wait until it has settled."""
        done: list[Any] = []

        def go() -> None:
            if self.face == "run":
                done.append(self.workflow.run("go", run_id="trip"))
            else:
                done.append(asyncio.run(self.workflow.arun("go", run_id="trip")))

        thread = threading.Thread(target=go)
        thread.start()
        self.gate.wait_reached()
        receipt = self.workflow.cancel("trip", reason="enough", **how)
        assert receipt.wait(PATIENCE)
        thread.join(PATIENCE)
        [output] = done
        assert output.status is RunStatus.cancelled
        return receipt


faces = pytest.mark.parametrize("face", ["run", "arun"])
HOOKS = [("on_cancel", "three", "enough"), ("on_cancel", "Trip", RunStatus.cancelling)]


@faces
def test_hooks(face: str) -> None:
    """Hooks of what was interrupted run once; finished steps aren't undone unless somebody says so."""
    trip = Trip(face)
    receipt = trip.stop()
    assert trip.log == HOOKS
    assert [(c.name, c.kind, c.status) for c in receipt.record.cleanup] == [
        ("three", "on_cancel", "done"),
        ("Trip", "on_cancel", "done"),
    ]


@faces
@pytest.mark.parametrize("said_by", ["cancel", "workflow"])
def test_compensations(face: str, said_by: str) -> None:
    """C4: steps that have begun are undone once each, the last one first; what never began isn't."""
    trip = Trip(face, compensate=said_by == "workflow")
    trip.stop(compensate=said_by == "cancel")
    assert trip.log == [HOOKS[0], ("undo", "three", True), ("undo", "two", "2"), ("undo", "one", "1"), HOOKS[1]]


@faces
@pytest.mark.parametrize("error", [ValueError("no refund"), SystemExit(3)])
def test_a_failing_compensation(face: str, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """C4: a hook that fails is recorded and logged, the rest still run, and the run ends cancelled."""

    async def fail(output: Any) -> None:
        raise error

    trip = Trip(face, undo_two=fail)
    receipt = trip.stop(compensate=True)
    assert [entry[:2] for entry in trip.log] == [
        ("on_cancel", "three"),
        ("undo", "three"),
        ("undo", "one"),
        ("on_cancel", "Trip"),
    ]
    [failed] = [c for c in receipt.record.cleanup if c.status == "failed"]
    assert failed.name == "two" and failed.error == f"{type(error).__name__}: {error}"
    assert any("hook 'two' failed" in r.getMessage() and r.levelno == logging.WARNING for r in caplog.records)


@faces
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_hook_that_takes_too_long(face: str, asynchronous: bool) -> None:
    """Hooks are bounded by the grace: the one that takes longer is stopped and named, what follows doesn't run."""
    entered = threading.Event()

    async def hang(output: Any) -> None:
        entered.set()
        await asyncio.sleep(PATIENCE)

    def hang_sync(output: Any) -> None:
        entered.set()
        sleep(PATIENCE)

    trip = Trip(face, undo_two=hang if asynchronous else hang_sync, grace=0.3)
    receipt = trip.stop(compensate=True)
    assert entered.is_set() and ("undo", "one", "1") not in trip.log
    assert [(left.name, left.kind) for left in receipt.abandoned] == [("two", "compensate")]
    assert [(c.name, c.status) for c in receipt.record.cleanup][-1] == ("two", "stopped")


@faces
def test_force_ends_cleanup(face: str) -> None:
    """A forced cancel ends hooks that run."""
    entered = threading.Event()

    async def hang(output: Any) -> None:
        entered.set()
        await asyncio.sleep(PATIENCE)

    trip = Trip(face, undo_two=hang)

    def force() -> None:
        assert entered.wait(PATIENCE)
        trip.workflow.cancel("trip", force=True)

    forcing = threading.Thread(target=force)
    forcing.start()
    receipt = trip.stop(compensate=True)
    forcing.join(PATIENCE)
    assert receipt.record.cleanup[-1].status == "stopped"


def test_a_second_cancel_does_not_disturb_cleanup() -> None:
    """A repeated cancel without force leaves hooks alone."""
    inside = Gate()

    async def refund(output: Any) -> None:
        await inside.wait()
        trip.log.append("refunded")

    trip = Trip(undo_two=refund)

    def again() -> None:
        inside.wait_reached()
        trip.workflow.cancel("trip", reason="again")
        inside.open()

    second = threading.Thread(target=again)
    second.start()
    receipt = trip.stop(compensate=True)
    second.join(PATIENCE)
    assert "refunded" in trip.log and receipt.reason == "enough" and receipt.abandoned == []
