"""D1, D2: what importing the names of the usual program costs, in CPU time and memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from bench.table import Figure, Table

__all__ = ["measure"]

#: What a program that streams a workflow of agents and cancels it imports.
NAMES = """
import threading, time
from desist.agent import Agent
from desist.models.openai import OpenAIChat
from desist.run.agent import RunEvent
from desist.run.events.base import RunStatus
from desist.run.workflow import WorkflowRunEvent
from desist.tools.duckduckgo import DuckDuckGoTools
from desist.workflow.step import Step
from desist.workflow.workflow import Workflow
"""
_TELL = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
pages = int(open("/proc/self/statm").read().split()[1])
print(used.ru_utime + used.ru_stime, pages * resource.getpagesize() / 1e6)
"""


def _run(code: str, repeats: int, environment: dict[str, str]) -> tuple[float, float]:
    """Return CPU seconds and resident MB of an interpreter that ran `code`: the medians."""
    command = [sys.executable, "-c", code + _TELL]

    def once() -> list[float]:
        told = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
        return [float(word) for word in told.split()]

    once()  # compiles what isn't, and brings it into the page cache
    seen = [once() for _ in range(repeats)]
    return statistics.median(cpu for cpu, _ in seen), statistics.median(size for _, size in seen)


def measure(*, quick: bool) -> list[Table]:
    """Measure whole interpreters: start-up is in every figure. Bytecode is compiled, as it is in an installed wheel."""
    repeats = 5 if quick else 7
    with tempfile.TemporaryDirectory() as compiled:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        ours, bare, sdk = (_run(code, repeats, environment) for code in (NAMES, "", "import openai"))
    cpu = Table("D1: CPU time to import the names of the usual program (interpreter included)")
    cpu.add(
        Figure("desist", ours[0], "s", 0.25),
        Figure("bare interpreter", bare[0], "s"),
        Figure("import openai", sdk[0], "s"),
    )
    memory = Table("D2: resident memory after that")
    memory.add(
        Figure("desist", ours[1], "MB", 45),
        Figure("bare interpreter", bare[1], "MB"),
        Figure("import openai", sdk[1], "MB"),
    )
    return [cpu.close(), memory.close()]
