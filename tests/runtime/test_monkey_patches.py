"""Programs with gevent's or eventlet's patches, and lazy imports that fail."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)  # a program imports all modules

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all({})",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch({})",
}
LEFT_ALONE = {"gevent": "thread=False, queue=False, select=False", "eventlet": "thread=False, select=False"}
PROGRAM = """
import importlib, pkgutil, desist
for module in pkgutil.walk_packages(desist.__path__, "desist."):
    if "main" not in module.name:
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            assert "desist" not in str(error.name), error
import threading
from desist import Agent, OpenAIChat, runs
from desist.testing import Call, LoopbackProvider, Reply, ScriptedModel

reached = threading.Event()

def spin() -> str:
    "Spin."
    reached.set()
    while True:
        pass

try:
    agent = Agent(ScriptedModel([Call("spin", {}), "never"]), tools=[spin])
    events = agent.run("x", stream=True)
    reached.wait()
    receipt = agent.cancel(events.run_id, grace=5)
    print(receipt.wait(20), receipt.abandoned)
    with LoopbackProvider(Reply(text="hello")) as provider:
        print(Agent(OpenAIChat(id="m", base_url=provider.base_url, api_key="k")).run("x").content)
except Exception as error:
    print(type(error).__name__, error, runs())
"""


def ran(library: str, arguments: str) -> str:
    """Return what the program prints behind the patch."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code = PATCH[library].format(arguments) + PROGRAM
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", PATCH)
def test_green_threads_are_refused(library: str) -> None:
    """Every module can be imported; a run says what isn't supported and what to do, and leaves no trace."""
    told = ran(library, "")
    assert told.startswith(f"ConfigurationError {library} has replaced threads by green threads") and "[]" in told


@pytest.mark.parametrize("library", PATCH)
def test_patches_that_leave_threads_alone(library: str) -> None:
    """With the patch that the error recommends, runs work and are cancelled, also in a loop of pure Python."""
    assert ran(library, LEFT_ALONE[library]) == "True []\nhello\n"


def test_a_lazy_import_does_not_hide_its_cause(tmp_path: Path) -> None:
    """An AttributeError inside of a module is told, instead of "cannot import name"."""
    (tmp_path / "lazy_package").mkdir()
    (tmp_path / "lazy_package" / "broken.py").write_text("import os\nos.no_such_thing\nvalue = 1\n")
    (tmp_path / "lazy_package" / "__init__.py").write_text(
        "from desist.lazy import lazy_names\n"
        "__getattr__, __dir__ = lazy_names(__name__, {'value': 'lazy_package.broken', 'none': 'lazy_package.empty'})\n"
    )
    (tmp_path / "lazy_package" / "empty.py").write_text("")
    program = (
        "import lazy_package\n"
        "for name in ('value', 'none', 'unknown'):\n"
        "    try:\n"
        "        exec(f'from lazy_package import {name}')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "print(hasattr(lazy_package, 'unknown'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    first, second, third, last = done.stdout.splitlines()
    assert "lazy_package.value can't be imported: AttributeError: module 'os' has no attribute 'no_such_thing'" in first
    assert "lazy_package.none can't be imported" in second
    assert "cannot import name 'unknown'" in third and last == "False"
