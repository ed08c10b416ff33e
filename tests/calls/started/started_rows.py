"""The rows of the acceptance table: what calls start, each as a function of `Props`."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import multiprocessing
import multiprocessing.pool
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import anyio.to_thread
from started_scenario import Props, Row

#: Made when this module is imported, before any call.
SHARED = ThreadPoolExecutor(8, thread_name_prefix="shared")


class OlderLoop:
    """An event loop in a thread that is older than the calls."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="older-loop", daemon=True).start()


OLDER = OlderLoop()


# -- E1: child processes of async code


async def child_of_async_code(props: Props) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "300", env=props.environ)
    await process.wait()


async def shell_of_async_code(props: Props) -> None:
    process = await asyncio.create_subprocess_shell(
        "sleep 300 & sleep 301; true", env=props.environ, stdout=asyncio.subprocess.PIPE
    )
    await process.communicate()


async def child_of_a_task(props: Props) -> None:
    await asyncio.gather(*[asyncio.create_task(child_of_async_code(props)) for _ in range(2)])


# -- E2: threads of async code


async def to_thread(props: Props) -> None:
    await asyncio.to_thread(props.heart.beat)


async def default_executor(props: Props) -> None:
    await asyncio.get_running_loop().run_in_executor(None, props.heart.beat)


async def shared_executor(props: Props) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*[loop.run_in_executor(SHARED, props.heart.beat) for _ in range(3)])


async def anyio_thread(props: Props) -> None:
    await anyio.to_thread.run_sync(props.heart.beat)


async def tasks(props: Props) -> None:
    hold = [asyncio.create_task(props.heart.beat_in_task()) for _ in range(3)]
    await asyncio.wait(hold)


async def task_that_is_not_awaited(props: Props) -> None:
    task = asyncio.create_task(props.heart.beat_in_task())
    await asyncio.sleep(300)
    await task


# -- E3: jobs


def own_pool(props: Props) -> None:
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(props.heart.beat) for _ in range(4)]:
            future.result()


def own_pool_mapped(props: Props) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(props.heart.beat, range(20)))  # 16 of them wait for a thread


def shared_pool(props: Props) -> None:
    for future in [SHARED.submit(props.heart.beat) for _ in range(4)]:
        future.result()


def thread_pool_of_multiprocessing(props: Props) -> None:
    with multiprocessing.pool.ThreadPool(3) as pool:
        pool.map(props.heart.beat, range(3), chunksize=1)


# -- E4: threads


def threads_joined(props: Props) -> None:
    started = [threading.Thread(target=props.heart.beat) for _ in range(3)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def threads_not_joined(props: Props) -> None:
    for _ in range(3):
        threading.Thread(target=props.heart.beat, daemon=True).start()
    props.heart.beat()


def raw_threads(props: Props) -> None:
    for _ in range(2):
        _thread.start_new_thread(props.heart.beat, ())
    threading.Event().wait()


def timer_thread(props: Props) -> None:
    timer = threading.Timer(0, props.heart.beat)
    timer.start()
    timer.join()


def thread_that_starts_a_pool_that_starts_a_child(props: Props) -> None:
    def job() -> None:
        subprocess.run(["sleep", "300"], env=props.environ, check=False)

    def thread() -> None:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(job), pool.submit(props.heart.beat)]:
                future.result()

    inner = threading.Thread(target=thread)
    inner.start()
    inner.join()


# -- E5: multiprocessing


def _pool(method: str, props: Props) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        props.heart.note_entered()  # the pool is made; a cancel before that may leave its threads, which are named
        pool.map(time.sleep, [300, 300])


def pool_fork(props: Props) -> None:
    _pool("fork", props)


def pool_spawn(props: Props) -> None:
    _pool("spawn", props)


def process_fork(_: Props) -> None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    process.start()
    process.join()


def process_spawn(_: Props) -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    process.start()
    process.join()


def process_pool_executor(_: Props) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        for future in [pool.submit(time.sleep, 300) for _ in range(2)]:
            future.result()


# -- E8: loops in the call's thread


def run_a_loop(props: Props) -> None:
    asyncio.run(props.heart.beat_in_task())


def run_a_loop_with_a_thread_and_a_child(props: Props) -> None:
    async def main() -> None:
        await asyncio.gather(to_thread(props), child_of_async_code(props), props.heart.beat_in_task())

    asyncio.run(main())


def run_on_an_older_loop(props: Props) -> None:
    asyncio.run_coroutine_threadsafe(props.heart.beat_in_task(), OLDER.loop).result()


# -- E10: processes that leave their parents


def shell_with_setsid(props: Props) -> None:
    subprocess.run("setsid sh -c 'sleep 300; true' & sleep 301; true", shell=True, env=props.environ, check=False)


def double_fork(props: Props) -> None:
    subprocess.run("(setsid sleep 300 &); sleep 301; true", shell=True, env=props.environ, check=False)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(300)
    os._exit(0)
os.wait()
time.sleep(300)
"""


def daemon_in_python(props: Props) -> None:
    subprocess.run([sys.executable, "-c", DAEMON], env=props.environ, check=False)


async def double_fork_of_async_code(props: Props) -> None:
    process = await asyncio.create_subprocess_shell("(setsid sleep 300 &); sleep 301; true", env=props.environ)
    await process.wait()


def fork(_: Props) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            time.sleep(300)
        os._exit(0)
    os.waitpid(pid, 0)


def process_that_starts_a_daemon(props: Props) -> None:
    words = "(setsid sleep 300 &); sleep 301; true"
    how: Any = {"shell": True, "env": props.environ}
    process = multiprocessing.get_context("fork").Process(target=subprocess.run, args=(words,), kwargs=how)
    process.start()
    process.join()


SYNC = [
    Row(own_pool, hearts=4),
    Row(own_pool_mapped, hearts=4),
    Row(shared_pool, hearts=4),
    Row(thread_pool_of_multiprocessing, hearts=3),
    Row(threads_joined, hearts=3),
    Row(threads_not_joined, hearts=4),
    Row(raw_threads, hearts=2),
    Row(timer_thread, hearts=1),
    Row(thread_that_starts_a_pool_that_starts_a_child, hearts=1, processes=1),
    Row(pool_fork, hearts=1, processes=2),
    Row(pool_spawn, hearts=1, processes=2),
    Row(process_fork, processes=1),
    Row(process_spawn, processes=1),
    Row(process_pool_executor, processes=2),
    Row(run_a_loop, hearts=1),
    Row(run_a_loop_with_a_thread_and_a_child, hearts=2, processes=1),
    Row(run_on_an_older_loop, hearts=1),
    Row(shell_with_setsid, processes=4),
    Row(double_fork, processes=3),
    Row(daemon_in_python, processes=2),
    Row(fork, processes=1),
    Row(process_that_starts_a_daemon, processes=3),
]
ASYNC = [
    Row(child_of_async_code, processes=1),
    Row(shell_of_async_code, processes=3),
    Row(child_of_a_task, processes=2),
    Row(to_thread, hearts=1),
    Row(default_executor, hearts=1),
    Row(shared_executor, hearts=3),
    Row(anyio_thread, hearts=1),
    Row(tasks, hearts=3),
    Row(task_that_is_not_awaited, hearts=1),
    Row(double_fork_of_async_code, processes=3),
]
ROWS = SYNC + ASYNC
