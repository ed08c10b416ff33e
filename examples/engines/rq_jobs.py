"""Runs as jobs of RQ, over Redis.

    redis-server                                     # or $RQ_REDIS_URL
    rq worker --url redis://127.0.0.1:6379/0 stories
    python rq_jobs.py "the sea"                      # submits a run and prints its end

RQ executes each job in a process of its own. The end of a job's time is an exception in that process, which cancels
the run. `send_stop_job_command` kills the process: that is a crash of the run, not a cancel. So cancel by the id of
the run.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from redis import Redis
from rq import Queue, Retry
from story import story

from desist.engine import drive


class NotEnded(Exception):
    """Another process has the run, and may still lose it."""


def drive_run(run_id: str) -> str:
    """Drive a run. A job that is executed twice does no harm: the second call finds the run owned, or ended."""
    outcome = drive(run_id, workflows=[story])
    if not outcome.ended:
        raise NotEnded(run_id)
    return outcome.status.value


def submit(subject: str, *, timeout: int = -1) -> Any:
    """Record a run, then enqueue its job."""
    submitted = story.submit(subject)
    queue = Queue("stories", connection=Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://127.0.0.1:6379/0")))
    retry = Retry(max=5, interval=15)  # of a job that has failed: the database was away, or the process was killed
    queue.enqueue("rq_jobs.drive_run", submitted.run_id, job_id=submitted.run_id, job_timeout=timeout, retry=retry)
    return submitted


def main() -> None:
    """Submit a run, and wait for its end."""
    submitted = submit(" ".join(sys.argv[1:]))
    print(submitted.run_id, flush=True)
    output = submitted.result()
    print(f"{output.status.value}: {output.content}")


if __name__ == "__main__":
    main()
