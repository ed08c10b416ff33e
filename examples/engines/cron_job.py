"""Runs by cron: each call drives what waits, one run after the other, and ends.

    python cron_job.py submit "the sea"
    * * * * *   cd /srv/app && python cron_job.py    # a line of a crontab

Two calls at a time do no harm: they share the runs. A run whose call was killed is resumed by the next call. For
another engine, the same loop finds runs whose job was never sent, because a program ended between the two.
"""

from __future__ import annotations

import sys

from story import db, story

from desist.engine import drive


def main() -> None:
    """Submit a run, or drive the runs that wait."""
    if sys.argv[1:2] == ["submit"]:
        print(story.submit(" ".join(sys.argv[2:])).run_id)
        return
    for run_id in story.resume_lost_runs():  # of a call that was killed
        print(run_id, story.submitted(run_id).result().status.value, flush=True)
    for waiting in db.queued_runs():
        if waiting.workflow_id == story.id:
            outcome = drive(waiting.run_id, workflows=[story])
            print(outcome.run_id, outcome.status.value, flush=True)


if __name__ == "__main__":
    main()
