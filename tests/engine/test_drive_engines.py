"""The examples in `examples/engines` with the real packages: what engines do to a run, and runs to an engine."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_programs import ENGINES, PATIENCE, Programs, Redis
from postgres_databases import missing

from desist import RunStatus
from desist.cancel.reason import Source

S = RunStatus
pytestmark = pytest.mark.timeout(200)


def need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        missing(package, f"{package} isn't installed: it is in the dependency group dev")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    need("redis")
    made = Redis(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cron(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.close()


# -- Celery


@pytest.fixture
def celery(tmp_path: Path, redis: Redis) -> Iterator[Programs]:
    """A Celery worker with one child process."""
    need("celery")
    made = Programs(tmp_path, CELERY_BROKER=redis.url)
    options = ["--pool", "prefork", "--concurrency", "1", "-l", "INFO", "--without-gossip", "--without-mingle"]
    made.start("-m", "celery", "-A", "celery_app", "worker", *options, "-n", "worker@localhost")
    yield made
    made.close()


SUBMIT = "import celery_app; print(celery_app.submit('tea').run_id)"


def test_celery_drives(celery: Programs) -> None:
    """A task drives the run to its end. The same task, delivered again, finds the run ended."""
    run_id = celery.call(SUBMIT)
    celery.let_on()
    output = celery.result(run_id)
    assert (output.status, output.content) == (S.completed, "story of tea")
    celery.wait_log("succeeded")
    celery.call(f"import celery_app; celery_app.drive_run.apply_async(args=['{run_id}'], task_id='{run_id}')")
    celery.wait_log("succeeded", 2)
    assert celery.log().count("'COMPLETED'") == 2 and len(celery.wait_writing()) == 1


def test_celery_revokes(celery: Programs) -> None:
    """`revoke(terminate=True)` is a cancel: the run is cleaned up and stored as cancelled by the task's process."""
    run_id = celery.call(SUBMIT)
    celery.wait_writing()
    celery.call(f"import celery_app; celery_app.app.control.revoke('{run_id}', terminate=True)")
    output = celery.result(run_id)
    assert (output.status, output.cancel.source) == (S.cancelled, Source.shutdown)
    assert "SystemExit" in output.cancel.reason and output.cancel.abandoned == [] and celery.cleaned


def test_celery_hears_of_a_cancel(celery: Programs) -> None:
    """A cancel by the id of the run, from another process, is no error for Celery: the task succeeds with CANCELLED."""
    run_id = celery.call(SUBMIT)
    celery.wait_writing()
    assert celery.story.submitted(run_id).cancel(reason="enough").wait(PATIENCE)
    celery.wait_log("'CANCELLED'")
    assert celery.result(run_id).cancel.reason == "enough"
    assert "Traceback" not in celery.log()


def test_celery_loses_a_process(celery: Programs) -> None:
    """A killed child process: its task is delivered again, and the run goes on after its last finished step."""
    run_id = celery.call(SUBMIT)
    (first,) = celery.wait_writing()
    celery.wait_stored(run_id)
    os.kill(first, signal.SIGKILL)
    assert celery.wait_writing(2)[0] == first
    celery.let_on()
    output = celery.result(run_id)
    assert [step.content for step in output.step_results] == ["outline of tea", "story of tea"]


# -- RQ


@pytest.fixture
def rq(tmp_path: Path, redis: Redis) -> Iterator[Programs]:
    """RQ with its jobs. A worker is started by the test."""
    need("rq")
    made = Programs(tmp_path, RQ_REDIS_URL=redis.url)
    yield made
    made.close()


def rq_worker(rq: Programs) -> None:
    url = rq.environment["RQ_REDIS_URL"]
    rq.start("-c", f"import rq, redis; rq.Worker(['stories'], connection=redis.Redis.from_url({url!r})).work()")


def test_rq_drives(rq: Programs) -> None:
    """A job drives the run to its end; a run that was cancelled before its job came never begins."""
    cancelled, run_id = (rq.call("import rq_jobs; print(rq_jobs.submit('tea').run_id)") for _ in range(2))
    assert rq.story.submitted(cancelled).cancel().wait(PATIENCE)
    rq.let_on()
    rq_worker(rq)
    assert rq.result(run_id).content == "story of tea"
    assert len(rq.wait_writing()) == 1 and rq.result(cancelled).status is S.cancelled


def test_rq_ends_a_job(rq: Programs) -> None:
    """The end of a job's time, which the test brings about, cancels the run."""
    run_id = rq.call("import rq_jobs; print(rq_jobs.submit('tea', timeout=3600).run_id)")
    rq_worker(rq)
    (job,) = rq.wait_writing()
    os.kill(job, signal.SIGALRM)
    output = rq.result(run_id)
    assert output.status is S.cancelled and "JobTimeoutException" in output.cancel.reason


# -- DBOS


DBOS_PROGRAM = """
import asyncio, sys
import dbos_app
from dbos import DBOS, SetWorkflowID
from story import story

async def main():
    DBOS(config={"name": "stories", "system_database_url": "sqlite:///dbos.db", "log_level": "ERROR"})
    DBOS.launch()
    run_id = sys.argv[1]
    with SetWorkflowID(run_id):
        handle = await DBOS.start_workflow_async(dbos_app.drive_run, run_id)
    if sys.argv[2:] == ["cancel"]:
        from pathlib import Path
        while not list(Path().glob("write.*")):
            await asyncio.sleep(0.02)
        await DBOS.cancel_workflow_async(run_id)
    try:
        print(await handle.get_result(), flush=True)
    except BaseException as error:
        print(type(error).__name__, flush=True)
    await story.submitted(run_id)
    DBOS.destroy()

asyncio.run(main())
"""


@pytest.fixture
def dbos(cron: Programs) -> Programs:
    need("dbos")
    return cron


@pytest.fixture
def temporal(cron: Programs) -> Programs:
    need("temporalio")
    return cron


def test_dbos_drives(dbos: Programs) -> None:
    """A step of a DBOS workflow drives the run; a cancel of the run is its result."""
    first, second = dbos.story.submit("tea"), dbos.story.submit("tea")
    dbos.start("-c", DBOS_PROGRAM, second.run_id)
    dbos.wait_writing()
    assert second.cancel().wait(PATIENCE)
    dbos.wait_log("CANCELLED")
    dbos.let_on()
    dbos.start("-c", DBOS_PROGRAM, first.run_id)
    assert dbos.result(first.run_id).content == "story of tea"
    dbos.wait_log("COMPLETED")


def test_dbos_cancels(dbos: Programs) -> None:
    """A cancel of the DBOS workflow reaches the run with the next heartbeat."""
    submitted = dbos.story.submit("tea")
    dbos.start("-c", DBOS_PROGRAM, submitted.run_id, "cancel")
    output = dbos.result(submitted.run_id)
    assert output.status is S.cancelled and "Cancelled" in output.cancel.reason and dbos.cleaned


def test_dbos_loses_its_process(dbos: Programs) -> None:
    """A killed process: DBOS recovers its workflow in the next one, and the run goes on after its finished step."""
    submitted = dbos.story.submit("tea")
    program = dbos.start("-c", DBOS_PROGRAM, submitted.run_id)
    (first,) = dbos.wait_writing()
    dbos.wait_stored(submitted.run_id)
    program.kill()
    program.wait(PATIENCE)
    dbos.start("-c", DBOS_PROGRAM, submitted.run_id)
    assert dbos.wait_writing(2)[0] == first
    dbos.let_on()
    output = dbos.result(submitted.run_id)
    assert [step.content for step in output.step_results] == ["outline of tea", "story of tea"]


# -- cron


CRON = "import cron_job; cron_job.main()"


def test_cron(cron: Programs) -> None:
    """A call drives what waits, and what a killed call has left."""
    lost = cron.story.submit("tea")
    call = cron.start("-c", CRON)
    cron.wait_writing()
    cron.wait_stored(lost.run_id)
    call.kill()
    call.wait(PATIENCE)
    cron.let_on()
    waiting = cron.story.submit("water")
    assert cron.start("-c", CRON).wait(PATIENCE) == 0, cron.log()
    assert (lost.result(1).content, waiting.result(1).content) == ("story of tea", "story of water")
    assert lost.run_id in cron.log() and waiting.run_id in cron.log()


# -- Temporal


def test_temporal(temporal: Programs) -> None:
    """The activity, in the environment of Temporal's SDK, which needs no server: it heartbeats, drives the run to its
    end, a cancel of the activity cancels the run, and the end of its worker hands the run over."""
    cancelled, completed, handed_over = (temporal.story.submit("tea") for _ in range(3))
    code = f"""
import asyncio
from pathlib import Path
import temporal_app
from temporalio.testing import ActivityEnvironment

async def main():
    environment, beats = ActivityEnvironment(), []
    environment.on_heartbeat = lambda *details: beats.append(details)
    for run_id in ({cancelled.run_id!r}, {handed_over.run_id!r}):
        driven = asyncio.ensure_future(environment.run(temporal_app.drive_run, run_id))
        while not (begun := list(Path().glob("write.*"))):
            await asyncio.sleep(0.02)
        begun[0].unlink()
        environment.cancel()
        try:
            print(await driven)
        except asyncio.CancelledError:
            print("cancelled", len(beats) > 0)
        environment = ActivityEnvironment()
        environment.worker_shutdown()
    Path("open").touch()
    print(await ActivityEnvironment().run(temporal_app.drive_run, {completed.run_id!r}))

temporal_app.INTERVAL = 0.01
asyncio.run(main())
"""
    assert temporal.call(code).splitlines() == ["cancelled True", "cancelled True", "COMPLETED"]
    assert handed_over.status is S.pending
    output = temporal.result(cancelled.run_id)
    assert output.status is S.cancelled and temporal.cleaned


# -- the examples as they are


@pytest.mark.parametrize("name", ["dbos_app", "cron_job"])
def test_the_programs_run(name: str, tmp_path: Path) -> None:
    """The programs that need no server run as they are."""
    if name == "dbos_app":
        need("dbos")
    program = str(ENGINES / f"{name}.py")
    calls = [[program, "submit", "the sea"], [program]] if name == "cron_job" else [[program, "the sea"]]
    printed = ""
    for call in calls:
        done = subprocess.run(
            [sys.executable, *call], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "COMPLETED" in printed
