"""Dispatches queued runs to workers through DBOS, and requeues the runs of dead workers.

Each workflow has a DBOS queue. A run is a DBOS workflow in it, whose only step is to call `drive` with the run's id on
the worker that dequeued it. The state of the run is in our tables, not in DBOS: a DBOS workflow is never cancelled, and
one that runs too late finds nothing to do. Called by `Worker` and `MaintenanceThread`.

Undocumented names of DBOS are used only in `desist.engine.dbos_internals`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from desist.exceptions import ConfigurationError, MissingExtraError, StoreError

if TYPE_CHECKING:
    from desist.engine.config import EngineConfig
    from desist.engine.dbos_internals import DbosInternals

__all__ = ["DbosDispatcher"]

log = logging.getLogger("desist.engine")

#: Name and version of the DBOS application. A new version excludes older workers.
APPLICATION, VERSION = "desist", "1"
#: The name of the only DBOS workflow.
DRIVE = "desist_run"
#: DBOS's connections of a worker.
POOL = 4

Drive = Callable[[str], Coroutine[Any, Any, str]]

_lock = threading.Lock()
_open: DbosDispatcher | None = None  #: DBOS allows one instance per process
_registered = False


class DbosDispatcher:
    """The DBOS queues of a worker's workflows.

    Parameters:
        config: the database of DBOS's tables.
        executor: the name of this worker, for `recover` once the worker is dead.
        limits: workflow id -> the maximum of concurrent runs on all workers; None: no limit.
        concurrency: the maximum of concurrent runs on this worker.
    """

    def __init__(self, config: EngineConfig, executor: str, limits: Mapping[str, int | None], concurrency: int) -> None:
        self._database, self._executor, self._limits, self._concurrency = config, executor, dict(limits), concurrency
        self.drive: Drive | None = None
        self._internals: DbosInternals | None = None

    def open(self, drive: Drive) -> None:
        """Connect, and begin to dequeue runs.

        Parameters:
            drive: executes the run with the given id, on DBOS's loop. DBOS records the returned text.

        Raises:
            MissingExtraError: DBOS isn't installed.
            ConfigurationError: this process has another worker, or uses DBOS itself.
            StoreError: DBOS can't use the database.
        """
        global _open
        self.drive = drive
        with _lock:
            if _open is not None:
                raise ConfigurationError("this process already has a worker: pass all workflows to that one")
            dbos = _dbos()
            from desist.engine.dbos_internals import is_dbos_used, open_internals

            if is_dbos_used():
                raise ConfigurationError(
                    "this process uses DBOS itself, and DBOS allows one instance per process: "
                    "run the worker in a process of its own"
                )
            _register(dbos)
            _redirect_dbos_log()
            _open = self
        try:
            internals = open_internals(dbos.DBOS(config=self._config()))
            internals.add_queues({_queue_name(name): limit for name, limit in self._limits.items()}, self._concurrency)
            self._internals = internals
            dbos.DBOS.launch()
        except BaseException as error:
            self.close()
            if (cause := _database_error(error)) is not None:
                raise StoreError(f"DBOS can't use its tables: {self._database.format_error(cause)}") from error
            raise

    def _config(self) -> Any:
        config: dict[str, Any] = {
            "name": APPLICATION,
            "system_database_url": self._database.url,
            "dbos_system_schema": self._database.schema,
            "application_version": VERSION,
            "executor_id": self._executor,
            "sys_db_pool_size": POOL,
            "use_listen_notify": False,
            "log_level": "ERROR",
        }
        if self._database.pooled:
            config |= {"db_engine_kwargs": {"connect_args": {"prepare_threshold": None}}}
        return config

    # -- sending runs

    def send(self, run_id: str, workflow_id: str, time: int) -> None:
        """Enqueue a run. Idempotent for the same `time`.

        Parameters:
            time: counts how often the run was sent: a new number enqueues the run again.
        """
        options = {
            "workflow_name": DRIVE,
            "queue_name": _queue_name(workflow_id),
            "workflow_id": _workflow_name(run_id, time),
        }
        _dbos().DBOS.enqueue_workflow_with_options(options, run_id)
        self.wake_queue(workflow_id)

    def wake_queue(self, workflow_id: str) -> None:
        """Poll the queue of a workflow more often for a while."""
        if self._internals is not None:
            self._internals.poll_soon(_queue_name(workflow_id))

    def in_flight(self, sent: Mapping[str, int]) -> set[str]:
        """Return the ids of the runs that are queued or executing. `sent`: run id -> the `time` of its last `send`."""
        names = {_workflow_name(run_id, time): run_id for run_id, time in sent.items()}
        found = _dbos().DBOS.list_workflows(workflow_ids=list(names), load_input=False, load_output=False)
        return {names[one.workflow_id] for one in found if one.status in ("ENQUEUED", "PENDING", "DELAYED")}

    def recover(self, executor: str) -> None:
        """Requeue the runs of a dead worker."""
        if self._internals is not None:
            self._internals.recover(executor)

    # -- shutdown

    def stop_taking(self) -> None:
        """Stop dequeuing runs."""
        if self._internals is not None:
            self._internals.stop_taking()

    def give_back(self) -> None:
        """Requeue this worker's unfinished runs. Call after `stop_taking`."""
        self.recover(self._executor)

    def close(self) -> None:
        """Destroy the DBOS instance. Its running tasks are cancelled."""
        global _open
        with _lock:
            mine = _open is self
            if mine:
                _dbos().DBOS.destroy()
                if self._internals is not None:
                    self._internals.drop_queues()
                _open = None


def _redirect_dbos_log() -> None:
    """Point DBOS's log handler at the present stderr. It keeps that of its import, and fails if that was closed."""
    for handler in logging.getLogger("dbos").handlers:
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
            handler.stream = sys.stderr


def _dbos() -> Any:
    try:
        import dbos
    except ImportError as error:
        raise MissingExtraError("a worker", "scale") from error
    return dbos


def _database_error(error: BaseException) -> BaseException | None:
    """Return the driver's error in an error of SQLAlchemy, or None for other errors."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error if isinstance(error, SQLAlchemyError) else None


def _queue_name(workflow_id: str) -> str:
    return f"desist:{workflow_id}"


def _workflow_name(run_id: str, time: int) -> str:
    return run_id if time <= 1 else f"{run_id}#{time}"


def _register(dbos: Any) -> None:
    """Register the DBOS workflow, once in the life of the process."""
    global _registered
    if not _registered:
        dbos.DBOS.workflow(name=DRIVE, max_recovery_attempts=None)(_drive)
        _registered = True


async def _drive(run_id: str) -> str:
    """Called by DBOS, which cancels this task only when the worker shuts down."""
    current = _open
    if current is None or current.drive is None:  # closing: the run is requeued, and this task cancelled
        await asyncio.Event().wait()
    assert current is not None and current.drive is not None
    return await current.drive(run_id)
