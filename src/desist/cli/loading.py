"""Workflows and agents by the names of their places: `module:name`, `file.py:name`. For commands."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from desist.exceptions import ConfigurationError

__all__ = ["load"]


def load(target: str) -> Any:
    """Return the workflow or agent that `target` names.

    Raises:
        ConfigurationError: there is none there; the message says what there is.
    """
    from desist.agent.agent import Agent
    from desist.workflow.workflow import Workflow

    place, _, name = target.rpartition(":")
    if not place or not name:
        raise ConfigurationError(f"{target!r} names no object: write module:name, or file.py:name")
    module = _module(place)
    found = getattr(module, name, None)
    if not isinstance(found, Workflow | Agent):
        known = [key for key, value in vars(module).items() if isinstance(value, Workflow | Agent)]
        there = ", ".join(known) or "none"
        raise ConfigurationError(f"{place} has no workflow or agent {name!r}; there: {there}")
    return found


def _module(place: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not place.startswith(error.name):
                raise
            raise ConfigurationError(f"there is no module {place!r} here: name its file") from error
    path = Path(place).resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"there is no file {place}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
