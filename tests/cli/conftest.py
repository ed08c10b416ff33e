"""Run commands in the process of the tests, where no signals are needed. Faster than a process for each."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from cli_commands import Call

from desist.cli import main


@pytest.fixture
def desist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command: exit code, standard output, standard error."""
    for name in ("DESIST_DB", "DESIST_SERVER", "DESIST_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["desist", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as left:
            code = left.code
        out, errors = capsys.readouterr()
        return int(code or 0), out, errors

    return call
