"""Systems without `/proc`, audit hooks, handles of processes, or fork: what needs them is named, the rest works.

`bare_system` takes all of these away from a process. Where a test may mount file systems, `/proc` is also taken away
for real, by an empty file system over it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PATIENCE = 150

#: Tests that need nothing of the system but threads, sockets and files.
PURE = (
    "cancel",
    "streams",
    "runtime/test_latch.py",
    "calls/test_thread_pool.py",
    "workflow/test_workflow_containers.py",
    "promise/test_guarantee_11_cleanup_runs.py",
)

Run = Callable[..., tuple[str, str]]


def execute(*command: str) -> tuple[str, str]:
    """Run a program to its end; return what it wrote to stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS / "support")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, cwd=TESTS.parent)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout, done.stderr


def run_bare(body: str, *arguments: str) -> tuple[str, str]:
    """Run a program in a process that is made bare first."""
    return execute(sys.executable, "-c", "import bare_system\n" + textwrap.dedent(body), *arguments)


def run_without_proc(body: str, *arguments: str) -> tuple[str, str]:
    """Run a program on this system with an empty file system over `/proc`."""
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    return execute(*hidden, sys.executable, "-c", textwrap.dedent(body), *arguments)


def can_hide_proc() -> bool:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(params=["bare", "without /proc"])
def run(request: pytest.FixtureRequest) -> Run:
    """The two ways to run a program on a lesser system."""
    if request.param == "bare":
        return run_bare
    if not can_hide_proc():
        pytest.skip("this user may not mount a file system over /proc")
    return run_without_proc


IMPORT_ALL = """
import importlib, pkgutil
import desist
names = [module.name for module in pkgutil.walk_packages(desist.__path__, "desist.") if "__main__" not in module.name]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_can_be_imported(run: Run) -> None:
    """Importing needs none of these features."""
    out, _ = run(IMPORT_ALL)
    assert int(out) > 300


def test_the_pure_tests_pass() -> None:
    """Deciding, cleaning up, storing, streaming and the containers of workflows work on a bare system."""
    body = """
    import sys, pytest
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
    """
    out, _ = run_bare(body, *(str(TESTS / path) for path in PURE))
    assert " passed" in out


MISSING = {
    "bare": {"audit hooks", "blocked descriptors", "child processes", "pidfd"},
    "without /proc": {"blocked descriptors", "child processes"},
}


def missing_layers(request: pytest.FixtureRequest) -> set[str]:
    known: set[str] = MISSING[request.node.callspec.params["run"]]
    return known


def test_missing_layers_are_logged_once(run: Run, request: pytest.FixtureRequest) -> None:
    """The first blocking call logs one warning that names each layer that doesn't work, with the consequence."""
    _, err = run("""
    import logging
    from desist import Workflow
    logging.basicConfig(format="%(levelname)s %(message)s")
    for _ in range(3):
        assert Workflow("W", steps=[lambda given: "done"]).run("go").content == "done"
    """)
    (line,) = err.splitlines()
    assert line.startswith("WARNING not all blocked code can be stopped on this system: ")
    assert {name for name in MISSING["bare"] if f"({name}: " in line} == missing_layers(request)


def test_nothing_is_logged_where_all_works() -> None:
    """On Linux no layer is missing."""
    if sys.platform != "linux":
        pytest.skip("the layers are those of Linux")
    body = 'from desist import Workflow\nprint(Workflow("W", steps=[lambda given: "done"]).run("go").content)'
    assert execute(sys.executable, "-c", body) == ("done\n", "")


def test_the_doctor_names_them(run: Run, request: pytest.FixtureRequest) -> None:
    """`desist doctor` shows each layer; those that don't work are weak, not broken, and say what that means."""
    out, err = run("from desist.cli import main\nmain()", "doctor", "--offline", "--json")
    found = {one["name"]: one for one in json.loads(out) if one["area"] == "machine"}
    weak = {name for name, one in found.items() if one["state"] == "weak"}
    assert weak == missing_layers(request) and err == ""
    assert "aren't found and go on" in found["child processes"]["message"]


CANCELS = """
import json, socket, subprocess, sys, threading, time
from desist import Step, Workflow
from desist.cancel import sleep

inside = threading.Event()
ends = []

def loop(given):
    inside.set()
    while True: time.sleep(0.001)

def cooperative(given):
    inside.set()
    sleep(600)

def receive(given):
    ours, theirs = socket.socketpair()
    ends.append(theirs)
    inside.set()
    ours.recv(1)

def child(given):
    with subprocess.Popen(["sleep", "600"]) as process:
        ends.append(process)
        inside.set()

left = {}
for work in (loop, cooperative, receive, child):
    inside.clear()
    workflow = Workflow("W", steps=[Step(work.__name__, executor=work)], grace=2)
    events = workflow.run("go", stream=True)
    assert inside.wait(30)
    receipt = workflow.cancel(events.run_id, grace=0.5 if work is child else 20)
    assert receipt.wait(60) and receipt.status.value == "CANCELLED"
    left[work.__name__] = [one.name for one in receipt.abandoned]
left["the child lives"] = ends[-1].poll() is None
ends[-1].kill()
print(json.dumps(left))
"""


def test_cancels_without_proc() -> None:
    """Without `/proc` alone: Python code and cooperative waits stop, sockets of the call are shut down, and a wait for
    a child process of `subprocess` is ended by its handle; only those below it aren't found."""
    if not can_hide_proc():
        pytest.skip("this user may not mount a file system over /proc")
    out, _ = run_without_proc(CANCELS)
    assert json.loads(out) == {
        "loop": [],
        "cooperative": [],
        "receive": [],
        "child": [],
        "the child lives": False,
    }
