"""A busy program that is killed at any moment: `python db_busy_program.py PLACE`. It says what was shown to it as
ended.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from typing import Any

from db_crash_program import open_db

from desist import Agent, Step, Steps, Workflow
from desist.testing import Call, ScriptedModel, ToolCalls


async def add(number: int) -> str:
    return f"{number} added"


def work(kind: str, place: str, name: str) -> None:
    """One session: runs that complete, fail and are cancelled, one after the other."""
    db = open_db(kind, place)
    calls = ToolCalls(Call("add", {"number": 1}, id="a"), Call("add", {"number": 2}, id="b"))
    model = ScriptedModel([["so ", *calls], "all is well"], repeat=True)
    agent = Agent(model, name="Worker", tools=[add], add_history_to_context=True)
    steps: list[Any] = [
        Step("count", executor=lambda given, session_state: session_state.update(n=session_state.get("n", 0) + 1)),
        Steps("box", steps=[Step("agent", agent=agent), Step("last", executor=lambda given: "last")]),
    ]
    workflow = Workflow("W", steps=steps, db=db)
    for number in itertools.count():
        run_id = f"{name}-{number}"
        events = workflow.run(f"q{number}", session_id=name, run_id=run_id, stream=True)
        for event in events:
            if number % 3 == 1 and event.event == "RunContent":
                workflow.cancel(run_id)
            if event.is_terminal:
                os.write(1, f"{run_id} {event.status.value}\n".encode())


if __name__ == "__main__":
    threads = [threading.Thread(target=work, args=(sys.argv[1], sys.argv[2], f"s{n}"), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
