"""Runs as tasks of Celery, over Redis.

    redis-server                                     # or $CELERY_BROKER
    celery -A celery_app worker --concurrency 4
    python celery_app.py "the sea"                   # submits a run and prints its end
    python celery_app.py --cancel RUN

`revoke(RUN, terminate=True)` cancels the run, too. A cancel by the id of the run is better: it is durable when it
returns, and it reaches the run wherever that is. A worker that is asked to end (SIGTERM) waits for its tasks. The
task of one that is killed is delivered again, because tasks are acknowledged late; the record of the run decides what
is left to do.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from story import story

from desist.engine import drive
from desist.exceptions import StoreError

app = Celery("celery_app", broker=os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/0"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,  # at the end of a task, so that the task of a lost worker is delivered again
    task_reject_on_worker_lost=True,
    task_ignore_result=True,  # the record of the run has the result
)


@app.task(name="drive", bind=True, max_retries=None, autoretry_for=(StoreError,), retry_backoff=True)
def drive_run(self: Any, run_id: str) -> str:
    """Drive a run. A task that is delivered twice does no harm: the second call finds the run owned, or ended."""
    outcome = drive(run_id, workflows=[story])
    if not outcome.ended:  # another process has the run, and may still lose it
        raise self.retry(countdown=15)
    return outcome.status.value


def submit(subject: str) -> Any:
    """Record a run, then send its task."""
    submitted = story.submit(subject)
    drive_run.apply_async(args=[submitted.run_id], task_id=submitted.run_id)
    return submitted


def main() -> None:
    """Submit a run, or cancel one."""
    if sys.argv[1] == "--cancel":
        print(story.submitted(sys.argv[2]).cancel(reason="cancelled by hand"))
        return
    submitted = submit(" ".join(sys.argv[1:]))
    print(submitted.run_id, flush=True)
    output = submitted.result()
    print(f"{output.status.value}: {output.content}")


if __name__ == "__main__":
    main()
