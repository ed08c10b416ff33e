"""Programs of users pass the strict modes of type checkers."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent / "user_page.py"


@pytest.mark.timeout(600)
def test_a_page_of_user_code_passes_mypy(tmp_path: Path) -> None:
    """`mypy --strict` finds nothing, also where `stream: bool` is passed on."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def run_pyright(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pyright, which downloads itself with npm when it runs for the first time."""
    command = [sys.executable, "-m", "pyright", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, cwd=folder)


@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_a_page_of_user_code_passes_pyright(tmp_path: Path) -> None:
    """`pyright` in strict mode finds nothing."""
    shutil.copy(PAGE, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text('{"include": ["user_page.py"], "typeCheckingMode": "strict"}')
    if run_pyright(tmp_path, "--version").returncode:
        pytest.skip("pyright could not be downloaded")
    done = run_pyright(tmp_path, "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout
