"""`Worker`: drives the runs that were submitted, in a process of its own or inside a program. The same code for both.

It is started, and left; between the two it does its work in threads of its own: DBOS's, which take runs, the home loop,
on which they live, and the keeper's. `desist worker` is `serve_worker` around one.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from desist.cancel.reason import Source
from desist.db.process.identity import this_process
from desist.db.store.shared_table_store import SharedTableStore
from desist.engine.config import engine_config, liveness_lock_of
from desist.engine.dbos_dispatcher import DbosDispatcher
from desist.engine.maintenance import MaintenanceThread
from desist.engine.run_executor import RunExecutor
from desist.exceptions import ConfigurationError
from desist.run.component.awaitable import awaitable
from desist.run.storage.store import Database, store_of
from desist.workflow.workflow import Workflow

if TYPE_CHECKING:
    from desist.run.execution.run import Run

__all__ = ["Worker"]

log = logging.getLogger("desist.engine")

#: Seconds for runs that were stopped to settle, beyond what their grace bounds.
SETTLING = 10.0
#: Seconds for each thing that is to be told at the end.
PARTING = 15.0


class Worker:
    """Drives submitted runs of some workflows, beside any number of other workers on the same database.

    A process can have one. `with Worker(...):` starts it, and leaves at the end.

    Parameters:
        workflows: those that it has. Runs of others are left alone. One without a `db` gets this one.
        db: the database that workers and those who submit share: `PostgresDb(...)`; `SqliteDb(...)` on one machine.
        concurrency: how many runs this worker drives at a time.
        limits: how many runs of a workflow, by its id, go on at a time on all workers together. Give all workers the
            same.
        drain: seconds that runs may go on after `stop`, before they are handed over or cancelled.

    Raises:
        ConfigurationError: a value can't be used, or the database isn't one that processes share.
        MissingExtraError: when it is started: the extra `scale` isn't installed.
    """

    def __init__(
        self,
        *,
        workflows: Sequence[Workflow],
        db: Database,
        concurrency: int = 10,
        limits: Mapping[str, int] | None = None,
        drain: float = 30.0,
    ) -> None:
        self._workflows = _checked(workflows, db)
        self._limits = _limits(limits or {}, self._workflows)
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency} of a Worker must be 1 or more")
        if drain < 0:
            raise ConfigurationError(f"drain={drain} of a Worker must not be negative: it is in seconds")
        store = store_of(db, "a Worker")
        if not isinstance(store, SharedTableStore):
            raise ConfigurationError(
                "db= of a Worker must be one that processes share: PostgresDb(...) or SqliteDb(...)"
            )
        self._store, self._drain = store, drain
        self._dispatch = DbosDispatcher(engine_config(store), this_process(), self._limits, concurrency)
        self._driver = RunExecutor(store, self._workflows, concurrency, self._dispatch.wake_queue)
        self._keeper: MaintenanceThread | None = None
        self._lock = threading.Lock()
        self._hurried = threading.Event()

    @property
    def live(self) -> int:
        """How many runs it drives now."""
        return len(self._driver.runs())

    def start(self) -> Worker:
        """Begin to take runs; return at once.

        Raises:
            StoreError: the database can't be used.
        """
        with self._lock:
            if self._keeper is not None:
                raise ConfigurationError("this Worker was started already: make a new one")
            self._keeper = MaintenanceThread(
                self._store, self._dispatch, sorted(self._workflows), liveness_lock_of(self._store)
            )
        self._keeper.register_worker()
        try:
            self._dispatch.open(self._driver.drive)
        except BaseException:
            self._keeper.stop()
            raise
        self._keeper.start()
        atexit.register(self._exit)  # it goes before what cancels all live runs
        log.info("worker %s has %s", this_process(), ", ".join(sorted(self._workflows)))
        return self

    def skip_drain(self) -> None:
        """Don't let runs go on any more that a `stop` waits for."""
        self._hurried.set()
        self._driver.wake()

    @property
    def describe(self) -> str:
        """What it has, and where, for people."""
        return f"runs of {', '.join(sorted(self._workflows))} in {self._store.backend.name}"

    def stop(self, source: Source = Source.shutdown, text: str = "the worker is shutting down") -> None:
        """Leave in order: take no more runs, let the live ones go on for `drain` seconds, and part with the rest.

        Runs of workflows with `on_crash="resume"` are handed over: another worker goes on with them, at once, after
        the last step that had finished. Others are cancelled, with source `shutdown`. Returns when all has settled.
        """
        with self._lock:
            keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        atexit.unregister(self._exit)
        self._dispatch.stop_taking()
        self._driver.leave(SETTLING)
        self._driver.wait_ended(time.monotonic() + self._drain, self._hurried)
        for run in self._driver.runs():
            _part(run, source, text)
        self._driver.wait_ended(time.monotonic() + SETTLING)
        # Whatever can't be told any more, because the database is away, others find out by this process's end.
        for work in (self._dispatch.give_back, keeper.stop, self._dispatch.close):
            _within(PARTING, work)
        log.info("worker %s has left", this_process())

    def _exit(self) -> None:
        """The interpreter ends, and nobody has stopped it."""
        self.skip_drain()
        self.stop(Source.shutdown, "the interpreter is ending")

    astart, astop = awaitable(start), awaitable(stop)

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Worker:
        return await self.astart()

    async def __aexit__(self, *error: object) -> None:
        await self.astop()


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do one thing of the end; don't wait for it longer than so."""

    def attempt() -> None:
        try:
            work()
        except Exception as error:
            log.warning("the worker couldn't leave in order: %s", error)

    thread = threading.Thread(target=attempt, name="desist-parting", daemon=True)
    thread.start()
    thread.join(seconds)


def _part(run: Run, source: Source, text: str) -> None:
    if getattr(run.body, "resumable", False):
        run.hand_over(f"{text}: another worker goes on with it")
    else:
        run.stop(source, text)


def _checked(workflows: Sequence[Workflow], db: Any) -> dict[str, Workflow]:
    """Return the workflows by their ids, with this database."""
    known: dict[str, Workflow] = {}
    for workflow in workflows:
        if not isinstance(workflow, Workflow):
            raise ConfigurationError(f"workflows= of a Worker must be workflows, not {workflow!r:.80}")
        if workflow.id in known:
            raise ConfigurationError(f"two workflows of a Worker have the id {workflow.id!r}: give one id=")
        if workflow.db is None:
            workflow.db = db
        elif workflow.store is not store_of(db, "a Worker"):
            raise ConfigurationError(
                f"workflow {workflow.id!r} has another database than its Worker: give both the same"
            )
        workflow.check()
        known[workflow.id] = workflow
    if not known:
        raise ConfigurationError("a Worker needs workflows=[...]")
    return known


def _limits(limits: Mapping[str, int], workflows: Mapping[str, Workflow]) -> dict[str, int | None]:
    for name, limit in limits.items():
        if name not in workflows:
            raise ConfigurationError(f"limits= of a Worker names {name!r}, and it has {', '.join(workflows)}")
        if limit < 1:
            raise ConfigurationError(f"limits={{{name!r}: {limit}}} of a Worker must be 1 or more")
    return {name: limits.get(name) for name in workflows}
