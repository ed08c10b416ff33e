"""A process that answers and continues the runs whose ids it reads: `KIND PLACE LOG BY`. It tells how that went."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from paused_agents import Payments, paying_agent

from desist.db import PostgresDb, SqliteDb
from desist.exceptions import AnswerRefusedError, RunStateError
from desist.run.answer import answer, pending


def main(kind: str, place: str, log: str, by: str) -> None:
    made: Any = PostgresDb if kind == "postgres" else SqliteDb
    db, payments = made(place), Payments()

    def note() -> None:
        with Path(log).open("a") as file:
            file.write(f"{by}\n")

    payments.before = note
    agent = paying_agent(payments, ["done"], db=db)
    print("ready", flush=True)
    for line in sys.stdin:
        run_id = line.strip()
        receipt = answer(run_id, pending(run_id, db=db)[0].requirement_id, "confirm", by=by, db=db)
        try:
            agent.continue_run(run_id=run_id)
            continued = "continued"
        except (AnswerRefusedError, RunStateError) as error:
            continued = type(error).__name__
        print(f"{receipt.outcome.value} {receipt.by} {continued}", flush=True)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
