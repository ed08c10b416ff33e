"""Programs of users pass the strict modes of type checkers."""

from __future__ import annotations

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


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed (it needs npm)")
def test_a_page_of_user_code_passes_pyright(tmp_path: Path) -> None:
    """`pyright` in strict mode finds nothing."""
    shutil.copy(PAGE, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text('{"include": ["user_page.py"], "typeCheckingMode": "strict"}')
    command = ["pyright", "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
