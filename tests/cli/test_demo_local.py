"""`desist demo` with the local model: the cancel is measured on a real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from desist.models.local.weights import MissingLocalModelError, find_weights, refuse_missing_runtime


def _missing() -> bool:
    try:
        refuse_missing_runtime()
        find_weights()
    except MissingLocalModelError:
        return True
    return False


pytestmark = [pytest.mark.local, pytest.mark.skipif(_missing(), reason="the local model isn't installed")]


def test_the_local_model_stops_computing(tmp_path: Path) -> None:
    """After the cancel the connection is closed, and the model soon uses no CPU time.

    Not at once: a model that reads its prompt finishes the current batch.
    """
    command = [sys.executable, "-c", "from desist.cli import main; main()", "demo", "--after", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is facts["model_stopped"] is True
    assert (facts["status"], facts["upstream_closed"], facts["abandoned"]) == ("CANCELLED", 1, [])
    assert facts["characters"] > 0
    assert facts["cpu_before"] > 0.1
    assert facts["model_idle_ms"] < 3000
