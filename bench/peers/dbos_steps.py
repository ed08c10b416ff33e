"""A workflow of trivial steps in DBOS: `python -m bench.peers.dbos_steps URL STEPS COUNT`."""

from __future__ import annotations

import os
import sys

from dbos import DBOS

from bench.peers.common import report, timed


@DBOS.step()
def _step(number: int) -> str:
    return "done"


@DBOS.workflow()
def _run(steps: int) -> str:
    return [_step(number) for number in range(steps)][-1]


def main() -> None:
    """Measure."""
    url, steps, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    url = url.replace("postgresql:", "postgresql+psycopg:")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    report(timed(lambda number: _run(steps), count))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
