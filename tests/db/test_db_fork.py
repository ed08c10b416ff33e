"""Forks of a process whose database is being written to."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

PROGRAM = """
    import os, sys, threading
    from desist import Workflow, Step
    from desist.db import SqliteDb

    db = SqliteDb(sys.argv[1])
    forking, forked, inside = threading.Event(), threading.Event(), threading.Event()

    def write(tables):
        inside.set()
        forking.wait(10)
        forked.wait(0.5)  # a fork that doesn't wait for this transaction happens now

    os.register_at_fork(before=forking.set, after_in_parent=forked.set)
    done = db.store.writer.put(write)
    inside.wait(10)
    pid = os.fork()
    if pid == 0:
        output = Workflow("W", steps=[Step("one", executor=lambda step: "1")], db=db).run("go", run_id="child")
        print("child", output.status.value, output.store_error, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    done.result(10)
    output = Workflow("W", steps=[Step("one", executor=lambda step: "1")], db=db).run("go", run_id="parent")
    print("parent", output.status.value, output.store_error)
    print(db.get_run("child").status.value)
"""


def test_a_fork_waits_for_the_transaction_of_the_writer(tmp_path: Path) -> None:
    """A child forked while its parent writes can write, and so can the parent afterwards."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines() == ["child COMPLETED None", "parent COMPLETED None", "COMPLETED"], (
        done.stdout + done.stderr
    )
