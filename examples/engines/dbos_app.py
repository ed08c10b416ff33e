"""Runs as steps of durable workflows of DBOS.

    python dbos_app.py "the sea"                     # submits a run, drives it, prints its end

DBOS records that the step was done, and starts it again after a crash; the record of the run decides what is left to
do. DBOS cancels a workflow between two steps only, so the heartbeat looks whether that has happened.
"""

from __future__ import annotations

import asyncio
import os
import sys

from dbos import DBOS, DBOSConfig, SetWorkflowID
from story import story

from desist.engine import adrive

#: The tables of DBOS; not the database of the runs.
SYSTEM = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///dbos.db")


class NotEnded(Exception):
    """Another process has the run, and may still lose it."""


class Cancelled(Exception):
    """The workflow of DBOS was cancelled."""


@DBOS.step(retries_allowed=True, interval_seconds=15, max_attempts=100)
async def drive_step(run_id: str, workflow_id: str) -> str:
    """Drive a run."""

    async def heartbeat() -> None:
        status = await DBOS.get_workflow_status_async(workflow_id)
        if status is not None and status.status == "CANCELLED":
            raise Cancelled(workflow_id)

    outcome = await adrive(run_id, workflows=[story], heartbeat=heartbeat, interval=1.0)
    if not outcome.ended:
        raise NotEnded(run_id)
    return outcome.status.value


@DBOS.workflow()
async def drive_run(run_id: str) -> str:
    """The workflow of DBOS; other steps may come before and after."""
    assert DBOS.workflow_id is not None
    return await drive_step(run_id, DBOS.workflow_id)


async def main() -> None:
    """Submit a run, drive it, and print its end."""
    config: DBOSConfig = {"name": "stories", "system_database_url": SYSTEM, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    submitted = await story.asubmit(" ".join(sys.argv[1:]))
    print(submitted.run_id, flush=True)
    with SetWorkflowID(submitted.run_id):
        handle = await DBOS.start_workflow_async(drive_run, submitted.run_id)
    print(await handle.get_result(), flush=True)
    print((await submitted).content)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
