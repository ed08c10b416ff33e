"""Daemons, as programs make them; each tells a file its number. Child processes import this: no heavy imports."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

#: What a daemon does to the descriptors and the environment that it has inherited.
Habit = Literal["plain", "closes all", "execs", "execs without environment"]

PROGRAM = "import os, sys, time; sys.path.insert(0, sys.argv[2]); import daemons; daemons.live(sys.argv[1])"
_HERE = str(Path(__file__).parent)


def live(path: str) -> None:
    """Note that this process is the daemon, and live for ever."""
    Path(path + ".new").write_text(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(300)


def fork_daemon(path: str, habit: Habit = "plain") -> None:
    """Fork twice, without starting another program at first: the daemon has no parent any more and its own session."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            if habit == "closes all":
                os.closerange(0, 4096)
            if habit == "execs":
                os.execv(sys.executable, _command(path))
            if habit == "execs without environment":
                os.execve(sys.executable, _command(path), {})
            live(path)
    finally:
        os._exit(0)


def _command(path: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, path, _HERE]


def in_the_call(path: str) -> None:
    fork_daemon(path)


def closing_all(path: str) -> None:
    fork_daemon(path, "closes all")


def executing(path: str) -> None:
    fork_daemon(path, "execs")


def without_environment(path: str) -> None:
    fork_daemon(path, "execs without environment")


def in_a_thread(path: str) -> None:
    thread = threading.Thread(target=fork_daemon, args=(path,))
    thread.start()
    thread.join()


def system(path: str) -> None:
    """Start one by a shell that C code starts."""
    words = " ".join(f"'{word}'" for word in _command(path))
    os.system(f"setsid {words} &")


def posix_spawn(path: str) -> None:
    """Start one by a program that leaves it."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", 'setsid "$@" &', "sh", *_command(path)], os.environ)
    os.waitpid(pid, 0)


def posix_spawnp(path: str) -> None:
    pid = os.posix_spawnp("sh", ["sh", "-c", 'setsid "$@" &', "sh", *_command(path)], {"PATH": os.environ["PATH"]})
    os.waitpid(pid, 0)


def run_daemon(path: str) -> None:
    """Start another program that leaves its parent."""
    subprocess.run(["sh", "-c", 'setsid "$@" &', "sh", *_command(path)], check=False)


def _of_process(method: str, target: Callable[[str], None], path: str) -> None:
    process = multiprocessing.get_context(method).Process(target=target, args=(path,))
    process.start()
    process.join()


def of_forked_process(path: str) -> None:
    _of_process("fork", fork_daemon, path)


def of_spawned_process(path: str) -> None:
    _of_process("spawn", fork_daemon, path)


def of_forkserver_process(path: str) -> None:
    _of_process("forkserver", fork_daemon, path)


def executed_by_spawned_process(path: str) -> None:
    _of_process("spawn", run_daemon, path)


def executed_by_forkserver_process(path: str) -> None:
    _of_process("forkserver", run_daemon, path)


def _of_job(method: Any, path: str) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        pool.submit(fork_daemon, path).result()


def of_a_job_of_a_spawned_pool(path: str) -> None:
    _of_job("spawn", path)


def of_a_job_of_a_forked_pool(path: str) -> None:
    _of_job("fork", path)


WAYS = [
    in_the_call,
    closing_all,
    executing,
    without_environment,
    in_a_thread,
    system,
    posix_spawn,
    posix_spawnp,
    of_forked_process,
    of_spawned_process,
    of_forkserver_process,
    executed_by_spawned_process,
    executed_by_forkserver_process,
    of_a_job_of_a_spawned_pool,
    of_a_job_of_a_forked_pool,
]
