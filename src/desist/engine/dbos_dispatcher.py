"""DBOS, and all that this project knows of it: which worker gets which run, and that a dead worker's are given again.

For each workflow there is a DBOS queue. A run is a DBOS workflow in it, whose only work is to call `drive` with the
run's id, on whichever worker took it. What becomes of the run stands in our tables, not here: a DBOS workflow is never
cancelled, and one that comes too late finds that there is nothing to do. Called by `Worker` and its keeper.

What is used of DBOS beyond its documented names is in `desist.engine.dbos_internals`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from desist.exceptions import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from desist.engine.config import EngineConfig
    from desist.engine.dbos_internals import DbosInternals

__all__ = ["DbosDispatcher"]

log = logging.getLogger("desist.engine")

#: What our workers are called as an application of DBOS, and its version. A new number shuts out older workers.
APPLICATION, VERSION = "desist", "1"
#: The name of the one DBOS workflow.
DRIVE = "desist_run"
#: How many connections a worker has for it.
POOL = 4

Drive = Callable[[str], Coroutine[Any, Any, str]]

_lock = threading.Lock()
_open: DbosDispatcher | None = None  #: DBOS is one for a process
_registered = False


class DbosDispatcher:
    """The queues of the workflows that a worker has.

    Parameters:
        place: where DBOS has its tables.
        executor: what this worker is called; when it is known to be dead, `recover` takes its name.
        limits: the ids of the workflows, and how many runs of each may go on at once on all workers; None: no limit.
        concurrency: how many runs this worker takes at a time.
    """

    def __init__(self, config: EngineConfig, executor: str, limits: Mapping[str, int | None], concurrency: int) -> None:
        self._place, self._executor, self._limits, self._concurrency = config, executor, dict(limits), concurrency
        self.drive: Drive | None = None
        self._inside: DbosInternals | None = None

    def open(self, drive: Drive) -> None:
        """Connect, and begin to take runs.

        Parameters:
            drive: does a run; it is given its id, on a loop of DBOS's. What it returns is noted there.

        Raises:
            MissingExtraError: DBOS isn't installed.
            ConfigurationError: this process has another worker, or a DBOS of its own.
        """
        global _open
        self.drive = drive
        with _lock:
            if _open is not None:
                raise ConfigurationError("this process has a worker already: give that one all workflows")
            dbos = _dbos()
            from desist.engine.dbos_internals import inside_of, is_there

            if is_there():
                raise ConfigurationError(
                    "this process uses DBOS itself, and it can't be there twice: run the worker apart"
                )
            _register(dbos)
            _redirect_dbos_log()
            _open = self
        try:
            inside = inside_of(dbos.DBOS(config=self._config()))
            inside.add_lines({_line(name): limit for name, limit in self._limits.items()}, self._concurrency)
            self._inside = inside
            dbos.DBOS.launch()
        except BaseException:
            self.close()
            raise

    def _config(self) -> Any:
        config: dict[str, Any] = {
            "name": APPLICATION,
            "system_database_url": self._place.url,
            "dbos_system_schema": self._place.schema,
            "application_version": VERSION,
            "executor_id": self._executor,
            "sys_db_pool_size": POOL,
            "use_listen_notify": False,
            "log_level": "ERROR",
        }
        if self._place.pooled:
            config |= {"db_engine_kwargs": {"connect_args": {"prepare_threshold": None}}}
        return config

    # -- giving runs

    def send(self, run_id: str, workflow_id: str, time: int) -> None:
        """Queue a run; doing it twice is doing it once.

        Parameters:
            time: which time it is sent: what was sent before, and is through, doesn't count any more.
        """
        options = {"workflow_name": DRIVE, "queue_name": _line(workflow_id), "workflow_id": _name(run_id, time)}
        _dbos().DBOS.enqueue_workflow_with_options(options, run_id)
        self.wake_queue(workflow_id)

    def wake_queue(self, workflow_id: str) -> None:
        """Runs of a workflow come and go: look for more of them."""
        if self._inside is not None:
            self._inside.poll_soon(_line(workflow_id))

    def in_flight(self, sent: Mapping[str, int]) -> set[str]:
        """Return those of these runs, by id, that are queued or being driven; with which time each was sent last."""
        names = {_name(run_id, time): run_id for run_id, time in sent.items()}
        found = _dbos().DBOS.list_workflows(workflow_ids=list(names), load_input=False, load_output=False)
        return {names[one.workflow_id] for one in found if one.status in ("ENQUEUED", "PENDING", "DELAYED")}

    def recover(self, executor: str) -> None:
        """Queue again what a dead worker had taken."""
        if self._inside is not None:
            self._inside.recover(executor)

    # -- leaving

    def stop_taking(self) -> None:
        """Take no more runs."""
        if self._inside is not None:
            self._inside.stop_taking()

    def give_back(self) -> None:
        """Queue again what this worker has taken and isn't through with. After `stop_taking`."""
        self.recover(self._executor)

    def close(self) -> None:
        """Let go of everything. What still drives is cancelled."""
        global _open
        with _lock:
            mine = _open is self
            if mine:
                _dbos().DBOS.destroy()
                if self._inside is not None:
                    self._inside.drop_lines()
                _open = None


def _redirect_dbos_log() -> None:
    """DBOS writes its log to what was stderr when it was imported, and fails to start where that was closed since."""
    for handler in logging.getLogger("dbos").handlers:
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
            handler.stream = sys.stderr


def _dbos() -> Any:
    try:
        import dbos
    except ImportError as error:
        raise MissingExtraError("a worker", "scale") from error
    return dbos


def _line(workflow_id: str) -> str:
    return f"desist:{workflow_id}"


def _name(run_id: str, time: int) -> str:
    return run_id if time <= 1 else f"{run_id}#{time}"


def _register(dbos: Any) -> None:
    """Make the one DBOS workflow known. It stays so for as long as the process lives."""
    global _registered
    if not _registered:
        dbos.DBOS.workflow(name=DRIVE, max_recovery_attempts=None)(_drive)
        _registered = True


async def _drive(run_id: str) -> str:
    """What DBOS calls. A cancellation of this task is DBOS's: the worker leaves."""
    current = _open
    if current is None or current.drive is None:  # it is being closed: what was taken is given back
        await asyncio.Event().wait()
    assert current is not None and current.drive is not None
    return await current.drive(run_id)
