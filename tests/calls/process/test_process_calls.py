"""Calls in worker processes that nobody cancels: what crosses, what can't, and what is said then."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from process_census import wait_gone

import process_functions as functions
from desist.calls.process import pool as pool_module
from desist.calls.process import run_in_process
from desist.exceptions import ConfigurationError, ToolError


def call(function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(run_in_process(function, args, name=getattr(function, "__name__", "it"), **options))


def test_a_call_runs_in_another_session_of_another_process() -> None:
    """The function runs in a process whose parent, the supervisor, leads a session that isn't ours."""
    pid, parent, session = call(functions.where)
    assert os.getpid() not in (pid, parent)
    assert session == parent != os.getsid(0)


def test_a_warm_worker_is_used_again() -> None:
    """Calls one after the other share a worker."""

    async def both() -> tuple[Any, Any]:
        first = await run_in_process(functions.where, name="first")
        return first, await run_in_process(functions.where, name="second")

    first, second = asyncio.run(both())
    assert first == second


def test_arguments_and_results_of_any_size() -> None:
    """Ten megabytes go there and come back."""
    value = {"bytes": os.urandom(10_000_000), "nested": [1, (2, None)]}
    assert call(functions.echo, value) == value


def test_many_calls_at_once() -> None:
    """More calls than workers are allowed wait for their turn, and all are answered."""

    async def many() -> list[int]:
        return await asyncio.gather(*(run_in_process(functions.add, (n,), {"b": 1}, name="add") for n in range(100)))

    assert asyncio.run(many()) == [n + 1 for n in range(100)]


def test_items_of_a_generator_arrive_one_by_one() -> None:
    """`on_item` gets each item, in order; without it the result is the list."""
    seen: list[int] = []
    assert call(functions.echo, iter([1, 2, 3])) == [1, 2, 3]
    assert call(functions.echo, iter([1, 2, 3]), on_item=seen.append) is None
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [("own", functions.Own, "mine"), ("odd", ToolError, "Odd: odd 1 2"), ("exit", SystemExit, "3")],
)
def test_exceptions_come_back(kind: str, error: type[BaseException], words: str) -> None:
    """An exception keeps its type where it can be built here, and has the traceback of its process as a note."""
    with pytest.raises(error, match=words) as caught:
        call(functions.fail, kind)
    [told] = caught.value.__notes__
    assert "in the process of 'fail'" in told and "in fail" in told and "serve.py" not in told


def test_an_interrupt_in_the_worker_is_no_interrupt_here() -> None:
    """A KeyboardInterrupt raised in the worker would end our loop: it comes back as an error."""
    with pytest.raises(ToolError, match="KeyboardInterrupt"):
        call(functions.fail, "interrupt")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "exit code 7"),
        ("segfault", "SIGSEGV"),
        ("kill", "SIGKILL.*out of memory, or killed from outside"),
        ("term", "SIGTERM from outside"),
        ("supervisor", "together with its supervisor"),
        ("close", "SIGKILL"),
    ],
)
def test_a_crash_is_an_error_of_the_call(how: str, words: str) -> None:
    """A worker that dies, however it does, is an error that says how; the next call works."""

    async def crash_and_go_on() -> int:
        with pytest.raises(ToolError, match=words):
            await run_in_process(functions.crash, (how,), name="crash")
        return await run_in_process(functions.add, (1,), name="add")

    assert asyncio.run(crash_and_go_on()) == 2


def test_a_memory_limit_hits_the_tool_alone() -> None:
    """A tool that limits its memory and exceeds the limit gets a MemoryError; nobody inherits the limit."""

    async def exhaust_and_look() -> int:
        with pytest.raises(MemoryError):
            await run_in_process(functions.exhaust, name="exhaust")
        return await run_in_process(functions.limit, name="limit")

    assert asyncio.run(exhaust_and_look()) == -1


def test_folder_and_environment_are_ours(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call sees our folder and environment as they are now, and not what an earlier call made of its own."""

    async def spoil_and_look() -> Any:
        await run_in_process(functions.spoil, name="spoil")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DESIST_TEST_NOW", "now")
        now = await run_in_process(functions.world, ("DESIST_TEST_NOW",), name="world")
        return now, await run_in_process(functions.world, ("DESIST_TEST_SPOILT",), name="world")

    assert asyncio.run(spoil_and_look()) == ((str(tmp_path), "now"), (str(tmp_path), None))


def test_what_a_call_leaves_running_ends_with_it() -> None:
    """A worker that has children left after a call is ended, and they with it."""
    assert wait_gone(call(functions.leaving_a_child))


def test_functions_without_a_name_are_refused() -> None:
    """A lambda and a local function can't be imported elsewhere: the error says so, before anything is started."""

    def local() -> None:
        """Local."""

    for function, words in ((lambda: None, "a lambda"), (local, "defined inside another function")):
        with pytest.raises(ConfigurationError, match=words):
            call(function)


def test_arguments_that_cannot_cross_are_named() -> None:
    """The error names the innermost place that can't be pickled, and its type."""
    with open(os.devnull) as file, pytest.raises(ToolError, match=r"positional argument 0\['a'\]\[1\] \(_io.Text"):
        call(functions.echo, {"a": [1, file]})


@pytest.mark.parametrize("function", [functions.give_lambda, functions.yield_lambda])
def test_results_that_cannot_cross_are_errors(function: Any) -> None:
    """A result or item that can't be pickled is an error that says so."""
    with pytest.raises(ToolError, match="can't be pickled"):
        call(function)


def test_a_timeout_of_the_caller_kills(door: Any) -> None:
    """Whoever gives up waiting, outside of any run, has the process killed."""

    async def give_up() -> int:
        task = asyncio.create_task(run_in_process(functions.deaf, (door.path,), name="deaf"))
        pid, _ = await asyncio.to_thread(door.answer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert wait_gone(asyncio.run(give_up()))


def test_a_forked_child_has_a_pool_of_its_own() -> None:
    """After os.fork() the child leaves the parent's workers alone and starts its own."""
    first = call(functions.where)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(30)
            code = 0 if call(functions.where)[0] != first[0] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert call(functions.where) == first


def test_idle_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that isn't used for a while is ended, quietly, and the next call gets another."""
    pid, supervisor, _ = call(functions.where)
    monkeypatch.setattr(pool_module, "IDLE", 0.0)
    assert call(functions.where)[0] == pid  # given back, it is too old at once
    assert wait_gone(pid) and wait_gone(supervisor)
    monkeypatch.undo()
    assert call(functions.where)[0] != pid
