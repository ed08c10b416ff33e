"""The versions of Python on this machine, for tests of what differs between them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

__all__ = ["PYTHONS"]

_VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def _find() -> list[str]:
    """Return this interpreter, and one of each other version: on the path, or installed by pyenv."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [sys.executable]
    for version in _VERSIONS:
        if version == own:
            continue
        installed = sorted(pyenv.glob(f"{version}.*/bin/python"))
        path = str(installed[-1]) if installed else shutil.which(f"python{version}")
        if path:
            found.append(path)
    return found


PYTHONS = _find()
