"""The setting that turns the tracking of started work off."""

from __future__ import annotations

import subprocess
import sys

OFF = """
import subprocess, threading, concurrent.futures, asyncio
before = [threading.Thread.start, subprocess.Popen.__init__, concurrent.futures.ThreadPoolExecutor.submit,
          asyncio.BaseEventLoop.create_task]
from desist import Step, Workflow
from desist.cancel.switch import set_work_tracking
from desist.calls.started.started_work import current_started_work
set_work_tracking(False)
seen = []
Workflow("w", steps=[Step("s", executor=lambda _: seen.append(current_started_work()))]).run("go")
assert seen == [None]
after = [threading.Thread.start, subprocess.Popen.__init__, concurrent.futures.ThreadPoolExecutor.submit,
         asyncio.BaseEventLoop.create_task]
assert before == after
set_work_tracking(True)
Workflow("w", steps=[Step("s", executor=lambda _: seen.append(current_started_work()))]).run("go")
assert seen[1] is not None and threading.Thread.start is not before[0]
print("ok")
"""

IMPORT = """
import subprocess, threading
before = [threading.Thread.start, subprocess.Popen.__init__]
import desist.workflow, desist.agent
assert before == [threading.Thread.start, subprocess.Popen.__init__]
print("ok")
"""


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    return done.stdout.strip() or done.stderr


def test_turned_off_nothing_is_wrapped() -> None:
    """Without the tracking, the standard library stays as it is; turned on again, later calls are tracked."""
    assert _run(OFF) == "ok"


def test_an_import_wraps_nothing() -> None:
    """A program that only imports desist has the standard library as it was."""
    assert _run(IMPORT) == "ok"
