"""A process that pauses, answers or continues a run and waits to be killed: `KIND PLACE SCENE LOG`. It says READY."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from paused_agents import Payments, paying_agent

from desist.db import PostgresDb, SqliteDb
from desist.run.answer import answer, pending


def ready() -> None:
    os.write(1, b"READY\n")
    threading.Event().wait()


def main(kind: str, place: str, scene: str, log: str) -> None:
    made: Any = PostgresDb if kind == "postgres" else SqliteDb
    db = made(place)
    payments = Payments()

    def note() -> None:
        with Path(log).open("a") as file:
            file.write("paid\n")
        if scene == "in the call":
            ready()

    payments.before = note
    agent = paying_agent(payments, db=db)
    if scene == "paused":
        agent.run("go", run_id="r", session_id="s")
        ready()
    if scene in ("answered", "answering"):
        found = pending("r", db=db)[0]
        if scene == "answering":
            os.write(1, b"READY\n")
        answer("r", found.requirement_id, "confirm", by="ann", db=db)
        ready()
    if scene == "in the call":
        agent.continue_run(run_id="r")


if __name__ == "__main__":
    main(*sys.argv[1:])
