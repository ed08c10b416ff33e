"""The other process of `bench.journal`, `python -m bench.journal_worker PLACE URL`: a run for each id it reads."""

from __future__ import annotations

import os
import sys
import threading
import time

from desist import Agent, Workflow
from desist.db import PostgresDb, SqliteDb
from desist.models.openai import OpenAIChat


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def _work(workflow: Workflow, run_id: str) -> None:
    told = False
    for event in workflow.run("go", run_id=run_id, stream=True):
        if event.event == "RunContent" and not told:
            told = True
            _say("begun", run_id)
        if event.is_terminal:
            _say("ended", run_id, time.monotonic(), event.status.value)


def main() -> None:
    """Run until the input ends."""
    db = PostgresDb(sys.argv[1]) if "://" in sys.argv[1] else SqliteDb(sys.argv[1])
    workflow = Workflow("bench", steps=[Agent(OpenAIChat("m", api_key="k", base_url=sys.argv[2]), name="A")], db=db)
    for line in sys.stdin:
        threading.Thread(target=_work, args=(workflow, line.strip()), daemon=True).start()
    db.close()


if __name__ == "__main__":
    main()
