"""What a million events cost in memory that nobody reads."""

from __future__ import annotations

import subprocess
import sys

from bench.table import Figure, Table

__all__ = ["measure"]

_CODE = """
import resource, sys
from desist import Workflow
from desist.run.agent import RunContentEvent

def talk(step_input):
    for _ in range(int(sys.argv[1])):
        yield RunContentEvent(content="x")

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

before = resident()
events = Workflow("W", steps=[talk]).run("go", stream=True)
events._run.settled.wait()
print(resident() - before)
"""


def measure(*, quick: bool) -> list[Table]:
    """Measure an interpreter whose reader doesn't read."""
    count = 200_000 if quick else 1_000_000
    told = subprocess.run([sys.executable, "-c", _CODE, str(count)], check=True, capture_output=True).stdout
    table = Table(f"memory of {count:,} events that aren't read")
    table.add(Figure("a run without a database", float(told), "MB", 100.0))
    return [table]
