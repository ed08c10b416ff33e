"""Notice the threads, jobs, tasks and child processes that code starts.

Python has no documented way to hear of these: the functions that start them are wrapped. They are wrapped when the
first tool or function step runs, and do nothing but read one context variable for code that no call makes.
`set_work_tracking(False)` turns this off for the calls that begin after it.
"""

from __future__ import annotations

import _thread
import asyncio
import functools
import multiprocessing.process
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from desist.calls.async_exception_safety import protect
from desist.calls.lost_exception import install_unraisable_hook
from desist.calls.process_mark import ENVIRONMENT, mark_of_this_process, mark_this_process
from desist.calls.socket_shutdown import install_audit_hook
from desist.calls.started.started_work import current_started_work, set_started_work, started_work_of
from desist.runtime.exit_detach import watch_exit
from desist.runtime.fork_hooks import register_at_fork
from desist.runtime.work_tracking import is_work_tracked

__all__ = ["hook_loop", "install_start_hooks"]

#: The attribute by which a process object of `multiprocessing` carries the mark while it is being started.
_MARK = "_desist_mark"
#: The module whose threads belong to a pool, which is ended as a whole.
_POOL = "multiprocessing.pool"
#: Modules whose threads serve the whole program, or belong to work that is noticed by itself.
_PLUMBING = ("asyncio.", "concurrent.futures.", "anyio.", "desist.")


def install_start_hooks() -> None:
    """Wrap the functions that start work, those of modules that are loaded by now. Can't be undone."""
    if not is_work_tracked():
        return
    _hook_standard_library()
    if "anyio._backends._asyncio" in sys.modules:
        hook_anyio()
    if "concurrent.futures.process" in sys.modules:
        hook_process_pools()
    if _POOL in sys.modules:
        _protect_pools()


@functools.cache
def _hook_standard_library() -> None:
    install_audit_hook()
    install_unraisable_hook()
    _wrap(threading.Thread, "start", _start_thread)
    _wrap(_thread, "start_new_thread", _start_raw_thread)
    _wrap(ThreadPoolExecutor, "submit", _submit)
    _wrap(subprocess.Popen, "__init__", _start_process)
    _wrap(multiprocessing.process.BaseProcess, "start", _start_multiprocessing)
    for name in ("fork", "forkpty"):
        _wrap(os, name, _fork)
    _wrap(os, "system", _system)
    for name in ("posix_spawn", "posix_spawnp"):
        _wrap(os, name, _posix_spawn)
    hook_loop(asyncio.BaseEventLoop)
    watch_exit()
    register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    """Make the mark: the child can't, as another thread may hold the lock."""
    started = current_started_work()
    if started is not None and not started.abandoned:
        started.process_mark()


def _after_fork_in_child() -> None:
    started = current_started_work()
    if started is not None and started.mark is not None:
        mark_this_process(started.mark.value)
    set_started_work(None)


def _fork(plain: Callable[..., Any]) -> Any:
    """Fork. Exceptions of `_before_fork` are ignored, so the code of an abandoned call is refused here."""
    started = current_started_work()
    if started is not None:
        started.process_mark()
    return plain()


def _system(plain: Callable[..., int], command: Any) -> int:
    """Have the shell export the mark: C code starts it, with the environment of this process."""
    mark = _mark_for_program()
    if mark is None:
        return plain(command)
    return plain(f"{ENVIRONMENT}={mark}; export {ENVIRONMENT}; ".encode() + os.fsencode(command))


def _posix_spawn(plain: Callable[..., int], path: Any, argv: Any, env: Any, **kwargs: Any) -> int:
    mark = _mark_for_program()
    if mark is None:
        return plain(path, argv, env, **kwargs)
    pid = plain(path, argv, _marked(env, mark), **kwargs)
    started = current_started_work()
    if started is not None:
        started.add_process(pid, os.path.basename(os.fsdecode(path)))
    return pid


def _mark_for_program() -> str | None:
    """Return the mark for the environment of a program that is about to start; None if no call starts it."""
    started = current_started_work()
    return mark_of_this_process() if started is None else started.process_mark().value


@functools.cache
def hook_loop(loop_class: Any) -> None:
    """Wrap `create_task` of a class of event loops, once, if the class is written in Python or derived there."""
    try:
        _wrap(loop_class, "create_task", _create_task)
    except TypeError:  # a class of an extension module: its tasks can't be noticed
        pass


@functools.cache
def hook_anyio() -> None:
    """Wrap anyio's worker threads, once, when anyio is loaded. Its public function is bound by name in its users."""
    backend = getattr(sys.modules.get("anyio._backends._asyncio"), "AsyncIOBackend", None)
    plain = getattr(backend, "run_sync_in_worker_thread", None)
    if backend is None or plain is None:
        return

    @functools.wraps(plain)
    async def run_sync(func: Callable[..., Any], args: Any, *more: Any, **kwargs: Any) -> Any:
        started = current_started_work()
        if started is None:
            return await plain(func, args, *more, **kwargs)
        job = started.add_thread(_name(func))
        try:
            return await plain(functools.partial(job.run, func), args, *more, **kwargs)
        finally:
            if not job.execution.native_id:  # it never started: the task was cancelled before
                job.execution.prevent_start()
                job.end()

    backend.run_sync_in_worker_thread = staticmethod(run_sync)


@functools.cache
def hook_process_pools() -> None:
    """Wrap `ProcessPoolExecutor.submit`, once, when its module is loaded: importing that takes some milliseconds."""
    from concurrent.futures import ProcessPoolExecutor

    _wrap(ProcessPoolExecutor, "submit", _submit_to_process)


@functools.cache
def _protect_pools() -> None:
    """Have no pool of `multiprocessing` left half made. Once, when the first starts something at the latest."""
    protect(sys.modules[_POOL].Pool.__init__)


def _submit_to_process(
    plain: Callable[..., Any], executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    started = current_started_work()
    if started is None:
        return plain(executor, fn, *args, **kwargs)
    job = started.add_pool_job(_name(fn))
    try:
        future = plain(executor, fn, *args, **kwargs)
    except BaseException:
        job.end()
        raise
    job.watch(future)
    return future


def _wrap(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    plain = getattr(owner, name, None)
    if plain is None:  # not on this system
        return

    @functools.wraps(plain)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return hook(plain, *args, **kwargs)

    protect(wrapper, hook)
    setattr(owner, name, wrapper)


def _start_thread(plain: Callable[..., Any], thread: threading.Thread) -> None:
    started = current_started_work()
    caller = _starter(thread, sys._getframe(2)) if started is not None else None
    if started is None or caller is None or _module_of(caller).startswith(_PLUMBING):
        plain(thread)
        return
    run = thread.run
    if _module_of(caller) == _POOL:
        _protect_pools()
        started.add_pool(caller.f_locals.get("self"))
        started.variables()

        def run_owned() -> None:
            thread.__dict__.pop("run", None)
            for variable, value in started.variables():  # the processes that it starts are the call's
                variable.set(value)
            run()

        thread.run = run_owned  # type: ignore[method-assign]
        plain(thread)
        return
    member = started.add_thread(thread.name)

    def run_member() -> None:
        thread.__dict__.pop("run", None)
        member.run_thread(run)

    thread.run = run_member  # type: ignore[method-assign]
    try:
        plain(thread)
    except BaseException:
        thread.__dict__.pop("run", None)
        member.end()
        raise


def _start_raw_thread(plain: Callable[..., int], function: Callable[..., Any], *args: Any) -> int:
    started = current_started_work()
    if started is None or not callable(function) or not args or not isinstance(args[0], tuple):
        return plain(function, *args)
    member = started.add_thread(_name(function))
    try:
        return plain(functools.partial(member.run_thread, function), *args)
    except BaseException:
        member.end()
        raise


def _submit(
    plain: Callable[..., Any], executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    started = current_started_work()
    if started is None:
        return plain(executor, fn, *args, **kwargs)
    job = started.add_thread(_name(fn))
    try:
        future = plain(executor, job.run, fn, *args, **kwargs)
    except BaseException:
        job.end()
        raise
    job.future, job.pool = future, executor
    return future


def _start_process(plain: Callable[..., None], process: Any, args: Any, *more: Any, **kwargs: Any) -> None:
    started = current_started_work()
    mark = _mark_for_program()
    if mark is None:
        plain(process, args, *more, **kwargs)
        return
    if len(more) > 9:  # the environment is the eleventh parameter
        more = (*more[:9], _marked(more[9], mark), *more[10:])
    else:
        kwargs["env"] = _marked(kwargs.get("env"), mark)
    plain(process, args, *more, **kwargs)
    if started is not None:
        started.add_process(process.pid, _command_name(args))


def _marked(env: Any, mark: str) -> Any:
    if env is None:
        return {**os.environ, ENVIRONMENT: mark}
    if any(isinstance(key, bytes) for key in env):
        return {**env, ENVIRONMENT.encode(): mark.encode()}
    return {**env, ENVIRONMENT: mark}


def _start_multiprocessing(plain: Callable[..., None], process: Any) -> None:
    started = current_started_work()
    if started is None:
        plain(process)
        return
    of_pool = _module_of(sys._getframe(2)) == _POOL
    if of_pool:
        _protect_pools()
    process.__dict__[_MARK] = started.process_mark()  # if the process isn't forked, this is pickled and marks it there
    try:
        plain(process)
    finally:
        process.__dict__.pop(_MARK, None)
    if process.pid is not None:
        started.add_process(process.pid, process.name, process.is_alive, of_pool=of_pool)


def _create_task(plain: Callable[..., Any], loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any) -> Any:
    task = plain(loop, *args, **kwargs)
    context = kwargs.get("context")
    started = current_started_work() if context is None else started_work_of(context)
    if started is not None and isinstance(task, asyncio.Task):
        started.add_task(loop, task)
    return task


def _starter(thread: threading.Thread, frame: FrameType | None) -> FrameType | None:
    """Return the frame that starts the thread: other libraries wrap `Thread.start` as well, classes override it."""
    while frame is not None and _module_of(frame) != "multiprocessing.dummy":
        first = frame.f_code.co_varnames[0] if frame.f_code.co_argcount else ""
        if frame.f_locals.get(first) is not thread:
            break
        frame = frame.f_back
    return frame


def _module_of(caller: FrameType) -> str:
    return str(caller.f_globals.get("__name__"))


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        runs_in_context = getattr(function.func, "__qualname__", "") == "Context.run"  # `asyncio.to_thread` does this
        function = function.args[0] if runs_in_context and function.args else function.func
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _command_name(args: Any) -> str:
    if isinstance(args, str | bytes | os.PathLike):
        return os.fsdecode(args).split()[0] if os.fsdecode(args).split() else "process"
    return os.path.basename(os.fsdecode(next(iter(args), "process")))
