"""A stored run of trivial steps: `python -m bench.peers.desist_steps URL STEPS COUNT`."""

from __future__ import annotations

import sys

from bench.peers.common import report, timed
from desist import Step, StepInput, Workflow
from desist.db import PostgresDb, SqliteDb


async def _step(given: StepInput) -> str:
    return "done"


def main() -> None:
    """Measure."""
    url, steps, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    db = PostgresDb(url) if url.startswith("postgresql") else SqliteDb(db_url=url)
    workflow = Workflow("Bench", steps=[Step(f"step {number}", executor=_step) for number in range(steps)], db=db)
    report(timed(lambda number: workflow.run("go"), count))
    db.close()


if __name__ == "__main__":
    main()
