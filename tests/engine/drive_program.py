"""A job of an engine: `python drive_program.py URL RUN ON_CRASH` drives a run, whose second step waits to be let on.

It says what happens, a word a line; a line on standard input opens the gate.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from desist import Step, StepInput, Workflow
from desist.engine import drive
from desist.testing import Gate

from engine_databases import open_db  # isort: skip  # a neighbour

gate = Gate()


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


async def one(given: StepInput) -> str:
    say("one")
    return "1"


async def two(given: StepInput) -> str:
    say("two")
    await gate.wait()
    return "2"


def kept(db: Any, on_crash: Any) -> Workflow:
    return Workflow("Kept", steps=[Step("one", executor=one), Step("two", executor=two)], db=db, on_crash=on_crash)


def listen() -> None:
    sys.stdin.readline()
    gate.open()


def main() -> None:
    url, run_id, on_crash = sys.argv[1:]
    threading.Thread(target=listen, daemon=True).start()
    outcome = drive(run_id, workflows=[kept(open_db(url), on_crash)])
    say(f"{outcome.result.value} {outcome.status.value}")


if __name__ == "__main__":
    main()
