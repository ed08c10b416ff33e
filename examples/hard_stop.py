"""Code that can't be stopped, and how to stop it: one deaf tool, in a thread and in a process of its own.

    python examples/hard_stop.py                # scripted; Linux

What to look at: Python can't kill a thread. In a thread the deaf tool is given up after the grace, and the receipt says
so, with the place where it hangs; it goes on until it ends by itself. With isolation="process" it is gone.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from desist import Agent, quarantine, tool
from desist.testing import Call, ScriptedModel

logging.getLogger("desist").setLevel(logging.ERROR)  # what is abandoned is logged as a warning, too; we print it


def deafly(note: str) -> str:
    """Note who does it, and be deaf for a while."""
    Path(note).write_text(str(os.getpid()))
    time.sleep(1.2)  # stands for a long call into C: no Python code runs that could be told to stop
    return "done"


@tool
def in_a_thread(note: str) -> str:
    """Do it in a thread."""
    return deafly(note)


@tool(isolation="process")
def in_a_process(note: str) -> str:
    """Do it in a process of its own."""
    return deafly(note)


def stop(deaf: Any, note: Path) -> None:
    """Start the tool, cancel when it has begun, and look what is left."""
    note.unlink(missing_ok=True)
    agent = Agent(ScriptedModel([Call(deaf.name, {"note": str(note)})]), tools=[deaf])
    events = agent.run("Go.", stream=True)
    while not (note.exists() and note.read_text()):
        time.sleep(0.01)
    time.sleep(0.1)  # let it get to where it is deaf
    worker = int(note.read_text())
    receipt = agent.cancel(events.run_id, reason="enough")
    receipt.wait()
    print(f"\n{deaf.name}: {receipt.status.value}")
    print(f"   abandoned: {[work.name for work in receipt.abandoned] or 'nothing'}")
    print(f"   still at work: {[work.name for work in quarantine()] or 'nothing'}")
    for work in receipt.abandoned:
        print(f"   hangs in: {str(work.blocked_in).strip().splitlines()[-1].strip()}")
    where = "this process" if worker == os.getpid() else "its process"
    print(f"   {where} is {'alive' if psutil.pid_exists(worker) else 'gone'}")


def main() -> None:
    """The same tool, twice."""
    with tempfile.TemporaryDirectory() as folder:
        for deaf in (in_a_thread, in_a_process):
            stop(deaf, Path(folder) / "note")
            while quarantine():  # only so that the second part begins with nothing left
                time.sleep(0.05)


if __name__ == "__main__":
    main()
