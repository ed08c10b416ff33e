"""`drive` and `adrive`: execute one submitted run in the calling process, for any engine that can call a function.

The calling thread or task only waits, and calls the heartbeat; see `Driver`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

from desist.cancel.reason import Source
from desist.cancel.signals import source_of
from desist.db.store.shared_table_store import SharedTableStore
from desist.engine.drive_outcome import DriveOutcome
from desist.engine.driver import Driver
from desist.exceptions import ConfigurationError, RunCancelled
from desist.run.storage.store import Database, store_of
from desist.runtime.daemon_thread import to_daemon_thread
from desist.runtime.lock_wait import acquire
from desist.workflow.workflow import Workflow

__all__ = ["adrive", "drive"]

log = logging.getLogger("desist.engine")

#: Seconds that a run may take to settle after a second exception.
FORCED = 1.0


def drive(
    run_id: str,
    *,
    workflows: Sequence[Workflow],
    db: Database | None = None,
    heartbeat: Callable[[], object] | None = None,
    interval: float = 5.0,
    hand_over: Callable[[], bool] | None = None,
) -> DriveOutcome:
    """Execute a submitted run in this process, to its end. For a job of another engine, whose argument is the run's id.

    A queued run begins; a run with `on_crash="resume"` whose process has died goes on after its last finished step. If
    another call or process has the run, or the run has ended, nothing is done. `workflow.submit` queues a run; one that
    is meant for another engine needs no worker.

    A cancel of the run is an outcome, not an exception. An exception that reaches this thread from outside
    (`SystemExit` of a signal handler, Ctrl-C, a time limit of the engine), or that `heartbeat` raises, means that the
    engine stops its job: the run is cancelled, with source `shutdown`, `interrupt` or `consumer_closed`. The exception
    goes on when the run has settled, or has not within its grace and ten seconds.

    Parameters:
        workflows: the workflows that the run may be one of.
        db: the database that the run was submitted to; None: that of the workflows.
        heartbeat: called in this thread while the run is claimed and executed.
        interval: the seconds between two calls.
        hand_over: called when the engine stops its job. If it returns True, a run with `on_crash="resume"` isn't
            cancelled, but waits in the queue again: for an engine that shuts down, and repeats its job elsewhere.

    Raises:
        ConfigurationError: there is no such run, or it is one of another workflow. Nothing was claimed.
        StoreError: the database can't be used, or has not confirmed the end of the run. The engine should retry.
    """
    driver = _driver(run_id, workflows, db, interval)
    try:
        done = threading.Lock()  # not `done.wait` at each heartbeat, which would leave a callback behind
        done.acquire()
        driver.done.add_done_callback(done.release)
        driver.start()
        while not acquire(done, interval if heartbeat is not None else None):
            if heartbeat is not None:
                heartbeat()
    except BaseException as error:
        _stop_and_wait(driver, error, hand_over)
        raise
    return driver.outcome()


async def adrive(
    run_id: str,
    *,
    workflows: Sequence[Workflow],
    db: Database | None = None,
    heartbeat: Callable[[], object | Awaitable[object]] | None = None,
    interval: float = 5.0,
    hand_over: Callable[[], bool] | None = None,
) -> DriveOutcome:
    """Do what `drive` does, on the caller's event loop. A cancel of the waiting task cancels the run.

    Parameters:
        heartbeat: a function, or an async function, called on the loop.
    """
    driver = _driver(run_id, workflows, db, interval)
    waiter = asyncio.ensure_future(driver.done.wait_async())
    try:
        driver.start()
        while not (await asyncio.wait({waiter}, timeout=interval if heartbeat is not None else None))[0]:
            called = heartbeat() if heartbeat is not None else None
            if inspect.isawaitable(called):
                await called
    except GeneratorExit:  # the loop is closing: nothing can be awaited
        driver.stop(Source.consumer_closed, "the coroutine that drove the run was closed")
        raise
    except BaseException as error:
        _stop(driver, error, hand_over)
        if await _wait_settled(driver, waiter):
            raise asyncio.CancelledError from error
        raise
    return await to_daemon_thread(driver.outcome, "desist-db-read")


def _driver(run_id: str, workflows: Sequence[Workflow], db: Database | None, interval: float) -> Driver:
    if interval <= 0:
        raise ConfigurationError(f"interval={interval} of drive() must be more than 0 seconds")
    if not workflows:
        raise ConfigurationError("drive() needs workflows=[...]")
    database = db if db is not None else workflows[0].db
    store = store_of(database, "drive()") if database is not None else None
    if not isinstance(store, SharedTableStore):
        raise ConfigurationError("drive() needs a database that processes share: db=PostgresDb(...) or SqliteDb(...)")
    for workflow in workflows:
        if workflow.db is None:
            workflow.db = db
        elif workflow.store is not store:
            raise ConfigurationError(f"workflow {workflow.id!r} has another db= than drive(): use the same for both")
    return Driver(run_id, store, {workflow.id: workflow for workflow in workflows})


def _stop(driver: Driver, error: BaseException, hand_over: Callable[[], bool] | None) -> None:
    handing_over = False
    try:
        handing_over = hand_over is not None and hand_over()
    finally:
        text = f"{type(error).__name__} in the job that drove the run: its engine has stopped the job"
        driver.stop(source_of(error), text, hand_over=handing_over)


def _stop_and_wait(driver: Driver, error: BaseException, hand_over: Callable[[], bool] | None) -> None:
    """Cancel the run and wait for its end. A second exception from outside forces the cancel, and is raised."""
    try:
        _stop(driver, error, hand_over)
        if not driver.done.wait(driver.patience):
            log.warning("run %s was stopped by its engine, and has not settled", driver.run_id)
    except RunCancelled:  # of the run that the calling code works for, which has its own grace
        raise
    except BaseException:
        driver.stop(Source.interrupt, "stopped twice")  # of a run that is being cancelled: forced
        driver.done.wait(FORCED)
        raise


async def _wait_settled(driver: Driver, waiter: asyncio.Future[None]) -> bool:
    """Wait for the end of a stopped run; return whether the task was cancelled again, which doesn't end the wait."""
    deadline, cancelled = time.monotonic() + driver.patience, False
    while not waiter.done() and (left := deadline - time.monotonic()) > 0:
        try:
            await asyncio.wait({waiter}, timeout=left)
        except asyncio.CancelledError:
            cancelled = True
    if not waiter.done():
        waiter.cancel()
        log.warning("run %s was stopped by its engine, and has not settled", driver.run_id)
    return cancelled
