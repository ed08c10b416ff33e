"""Pools of processes, cancelled at any moment of their making: nothing hangs, nothing is left, nothing is printed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest
from hanging_server import PATIENCE
from started_scenario import Props, Run, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process table is read through /proc")
Making = Callable[..., Any]


class Stop:
    """Holds a thread at the n-th line of a function, until it is let go of."""

    def __init__(self, function: Making, line: int) -> None:
        self._code, self._line = function.__code__, line
        self.reached, self.let_go = threading.Event(), threading.Event()

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        return self._trace if frame.f_code is self._code else None

    def _trace(self, frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            self._line -= 1
            if self._line < 0 and not self.let_go.is_set():
                self.reached.set()
                while not self.let_go.is_set():
                    time.sleep(0.0005)
        return self._trace


def cancel_at(line: int, function: Making, use: Callable[[Callable[[], None]], None], props: Props) -> None:
    """Cancel a call at a line of `function`, which it calls by `use`; or, if it has fewer lines, after that."""
    stop = Stop(function, line)

    def work() -> None:
        sys.settrace(stop)
        try:
            use(stop.reached.set)
        finally:
            sys.settrace(None)

    run = Run(work).start()
    assert stop.reached.wait(PATIENCE)
    settled = run.workflow.cancel(run.run_id)
    stop.let_go.set()
    assert settled.wait(PATIENCE), "not settled"
    assert settled.abandoned == [], settled.abandoned
    assert props.processes() == []
    run.wait_over()
    left = [thread for thread in threading.enumerate() if "_handle_" in thread.name]
    wait_until(lambda: not any(thread.is_alive() for thread in left), f"threads of the pool are left: {left}")


def use_pool(method: str, made: Callable[[], None]) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        made()
        pool.map(time.sleep, [300, 300], chunksize=1)


def use_executor(method: Any, made: Callable[[], None]) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        jobs = [pool.submit(time.sleep, 300) for _ in range(3)]
        made()
        for job in jobs:
            job.result()


@pytest.mark.parametrize("line", range(0, 56, 2))
def test_while_a_pool_is_made(line: int, props: Props, capfd: pytest.CaptureFixture[str]) -> None:
    """A call that is cancelled at any line of `Pool.__init__` leaves no process and no thread, and its end is soon."""
    cancel_at(line, multiprocessing.pool.Pool.__init__, partial(use_pool, "fork"), props)
    assert "Error" not in capfd.readouterr().err


@pytest.mark.parametrize("line", range(0, 60, 12))
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_while_a_pool_of_other_processes_is_made(
    method: str, line: int, props: Props, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same for processes that aren't forked."""
    cancel_at(line, multiprocessing.pool.Pool.__init__, partial(use_pool, method), props)
    assert "Error" not in capfd.readouterr().err


@pytest.mark.parametrize("tasks", [0, 1])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_with_idle_workers(method: str, tasks: int, props: Props, capfd: pytest.CaptureFixture[str]) -> None:
    """A worker that waits for a job holds a lock of the pool: it isn't killed before the pool lets go of it."""
    made = threading.Event()

    def work() -> None:
        with multiprocessing.get_context(method).Pool(3) as pool:
            pool.map(abs, range(3))
            jobs = [pool.apply_async(time.sleep, (300,)) for _ in range(tasks)]
            made.set()
            for job in jobs:
                job.get()
            while True:
                time.sleep(0.001)

    run = Run(work).start()
    assert made.wait(PATIENCE)
    assert run.stop().abandoned == []
    assert props.processes() == []
    run.wait_over()
    assert "Error" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["__init__", "submit", "_start_executor_manager_thread", "_spawn_process"])
@pytest.mark.parametrize("line", [0, 9])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_while_an_executor_is_made(
    method: str, line: int, name: str, props: Props, capfd: pytest.CaptureFixture[str]
) -> None:
    """A `ProcessPoolExecutor` whose call is cancelled while it is made, or while it starts its processes."""
    function = getattr(ProcessPoolExecutor, name, None)
    if function is None:
        pytest.skip("not in this version")
    cancel_at(line, getattr(function, "__wrapped__", function), partial(use_executor, method), props)
    assert "Error" not in capfd.readouterr().err
