"""Runs as activities of Temporal.

    temporal server start-dev
    python temporal_app.py worker
    python temporal_app.py "the sea"                 # submits a run and prints its end

The heartbeat tells the server that the activity lives, and brings a cancel of the workflow to the activity: the run is
cancelled, and the activity ends when the run has settled. An activity whose worker ends, or has died, is started again
elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from story import story

    from desist.engine import adrive

QUEUE = "stories"
INTERVAL = 5.0  #: seconds between two heartbeats


@activity.defn
async def drive_run(run_id: str) -> str:
    """Drive a run."""
    outcome = await adrive(
        run_id,
        workflows=[story],
        heartbeat=activity.heartbeat,
        interval=INTERVAL,
        hand_over=activity.is_worker_shutdown,  # Temporal starts the activity again, on another worker
    )
    if not outcome.ended:  # another process has the run, and may still lose it
        raise ApplicationError(f"run {run_id} has another owner", next_retry_delay=timedelta(seconds=15))
    return outcome.status.value


@workflow.defn
class DriveRun:
    """The workflow of Temporal; other activities may come before and after."""

    @workflow.run
    async def run(self, run_id: str) -> str:
        """Drive the run, and wait for its end, also after a cancel."""
        return await workflow.execute_activity(
            drive_run,
            run_id,
            start_to_close_timeout=timedelta(days=7),
            heartbeat_timeout=timedelta(seconds=30),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


async def main() -> None:
    """Work, or submit a run."""
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    if sys.argv[1] == "worker":
        await Worker(client, task_queue=QUEUE, workflows=[DriveRun], activities=[drive_run]).run()
        return
    submitted = await story.asubmit(" ".join(sys.argv[1:]))
    handle = await client.start_workflow(DriveRun.run, submitted.run_id, id=submitted.run_id, task_queue=QUEUE)
    print(submitted.run_id, await handle.result(), flush=True)
    print((await submitted).content)


if __name__ == "__main__":
    asyncio.run(main())
