"""A forked child with live runs of its parent: what it does in desist works or is refused, and it ends at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
    import os, signal, sys, threading
    from desist import Workflow
    from desist.db import SqliteDb

    db = SqliteDb(sys.argv[1])
    hold = threading.Event()
    workflow = Workflow("W", steps=[lambda step_input: hold.wait(60) and "x"], db=db)
    quick = Workflow("Q", steps=[lambda step_input: "x"], db=db)
    events = workflow.run("go", run_id="live", stream=True)
    next(events)
    child = os.fork()
    if child == 0:
        signal.alarm(40)
        try:
            {code}
        except Exception as error:
            print(type(error).__name__, error)
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    hold.set()
    list(events)
    print(db.get_run("live").status.value)
    db.close()
"""


@pytest.mark.parametrize(
    ("code", "said", "end"),
    [
        ("pass", "", "COMPLETED"),
        ("print(quick.run('go').status.value)", "COMPLETED", "COMPLETED"),
        ("print(db.get_run('live').status.value)", "RUNNING", "COMPLETED"),
        ("print(bool(workflow.cancel('live', grace=0.1)))", "True", "CANCELLED"),
        ("print(next(events))", "DesistError the reader of run live belongs to process", "COMPLETED"),
        ("events.close(); print('closed')", "closed", "COMPLETED"),
        ("del events; print('dropped')", "dropped", "COMPLETED"),
    ],
    ids=["exits", "runs", "looks", "cancels", "reads", "closes", "drops"],
)
def test_a_forked_child(tmp_path: Path, code: str, said: str, end: str) -> None:
    """The child exits normally, its exit hooks neither hang nor end the parent's run, which ends as it should."""
    program = textwrap.dedent(PROGRAM).replace("{code}", code)
    command = [sys.executable, "-c", program, str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    *child, code_of_child, status = done.stdout.splitlines()
    assert (code_of_child, status) == ("3", end), done.stdout + done.stderr
    assert "".join(child).startswith(said)
