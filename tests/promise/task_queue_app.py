"""A Celery application whose task runs a workflow. As a program it sends a task, or revokes one.

The broker is a folder, so no server is needed: $QUEUE_FOLDER, in which the database is, too.
"""

from __future__ import annotations

import os
import sys

from celery import Celery

folder = os.environ["QUEUE_FOLDER"]
app = Celery("task_queue_app", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@app.task(name="work", ignore_result=True)
def work(run_id: str) -> None:
    """Run a workflow that waits for its model."""
    from desist import Agent, Workflow
    from desist.db import SqliteDb
    from desist.testing import Gate, ScriptedModel

    class Said(Gate):
        def _arrive(self, wake):
            arrived = super()._arrive(wake)
            say("READY")
            return arrived

    agent = Agent(ScriptedModel([["some ", "text ", Said()]]), name="Writer")
    workflow = Workflow(
        "W",
        steps=[agent, lambda given: say("NEXT STEP")],
        db=SqliteDb(f"{folder}/runs.db"),
        on_cancel=lambda output: say("HOOK"),
        grace=5,
    )
    try:
        workflow.run("go", run_id=run_id)
    except BaseException as error:
        say("RAISED", type(error).__name__)
        raise


if __name__ == "__main__":
    if sys.argv[1] == "send":
        work.apply_async(args=[sys.argv[2]], task_id=sys.argv[2])
    else:
        app.control.revoke(sys.argv[2], terminate=True, signal=sys.argv[3])
